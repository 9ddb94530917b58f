"""One request on its connection: who owns its files, when a client that left cancels it, and how an answer breaks off.

1. What a request opens belongs to the connection and is closed with it, however the request ends.
2. A client that leaves cancels its request. But the event that says so also follows the *last* body event, and by then
   the server is busy closing or recycling the connection: after that event nothing is cancelled any more.
3. An answer that cannot be finished rightly is broken off: no final event is sent, so the connection closes short.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, cast

import structlog
import trio
from quart.asgi import ASGIHTTPConnection
from quart_trio.asgi import TrioASGIHTTPConnection
from quart_trio.wrappers import TrioRequest

from pkgserver_trio.errors import BrokenOffError

if TYPE_CHECKING:
    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, HTTPScope
    from quart import Quart

    from pkgserver_trio.web.app import PackageServer


class Request(TrioRequest):
    """A request, what was opened for it, and whom its costs are counted for (`peers.peer_of`)."""

    belongings: ExitStack
    peer: str


class Connection(TrioASGIHTTPConnection):
    """Quart-Trio's side of one request."""

    def __init__(self, app: Quart, scope: HTTPScope) -> None:
        # Quart would choke on some request targets; the application routes on the raw path anyway.
        super().__init__(app, {**scope, "path": "/"})
        self._ended = False

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Answer the request."""
        request = cast("Request", self._create_request_from_scope(send))
        statistics = cast("PackageServer", self.app).statistics
        with statistics.request(self.scope["raw_path"].decode("latin-1")), ExitStack() as request.belongings:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen, nursery, request, receive)
                nursery.start_soon(self._respond, nursery, request, send)

    async def _listen(self, nursery: trio.Nursery, request: Request, receive: ASGIReceiveCallable) -> None:
        """Take what the client sends, until it leaves."""
        await ASGIHTTPConnection.handle_messages(self, request, receive)
        if not self._ended:
            nursery.cancel_scope.cancel()

    async def _respond(self, nursery: trio.Nursery, request: Request, send: ASGISendCallable) -> None:
        """Answer; there is no limit in time, only on silence, and that is the server's."""

        async def send_noting_the_end(event: ASGISendEvent) -> None:
            self._ended = event["type"] == "http.response.body" and not event["more_body"]
            await send(event)

        response = await self.app.handle_request(request)
        try:
            await self._send_response(send_noting_the_end, response)
        except BrokenOffError as error:
            cast("PackageServer", self.app).statistics.broken_off_answers += 1
            structlog.get_logger().warning(
                "answer broken off", path=self.scope["raw_path"].decode("latin-1"), error=str(error)
            )
        nursery.cancel_scope.cancel()

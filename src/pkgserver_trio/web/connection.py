"""One request on its connection: who owns its files, when a client that left cancels it, and how an answer breaks off.

1. What a request opens belongs to the connection and is closed with it, however the request ends.
2. A client that leaves cancels its request. But the event that says so also follows the *last* body event, and by then
   the server is busy closing or recycling the connection: after that event nothing is cancelled any more.
3. An answer that cannot be finished rightly is broken off: no final event is sent, so the connection closes short.
4. Every request has a name, which its answer and every log line about it bear, and is told in one line when it ends.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, cast

import structlog
import trio
from hypercorn.utils import suppress_body
from quart.asgi import ASGIHTTPConnection
from quart_trio.asgi import TrioASGIHTTPConnection

from pkgserver_trio.errors import BrokenOffError
from pkgserver_trio.web.request import name_request
from pkgserver_trio.web.request_line import RequestLine

if TYPE_CHECKING:
    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, HTTPScope
    from quart import Quart

    from pkgserver_trio.web.app import PackageServer
    from pkgserver_trio.web.request import Request


class Connection(TrioASGIHTTPConnection):
    """Quart-Trio's side of one request."""

    def __init__(self, app: Quart, scope: HTTPScope) -> None:
        # Quart would choke on some request targets; the application routes on the raw path anyway.
        super().__init__(app, {**scope, "path": "/"})
        self._line = RequestLine(scope["method"], scope["raw_path"].decode("latin-1"), [*scope["headers"]])
        self._began = trio.current_time()

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Answer the request."""
        request = cast("Request", self._create_request_from_scope(send))
        request.line = self._line
        name = name_request(self._line.headers)
        statistics = cast("PackageServer", self.app).statistics
        try:
            with statistics.request(self._line.path), ExitStack() as request.belongings:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._listen, nursery, request, receive)
                    nursery.start_soon(self._respond, nursery, request, send, name)
        finally:
            structlog.get_logger().info("request", **self._line.words(trio.current_time() - self._began))

    async def _listen(self, nursery: trio.Nursery, request: Request, receive: ASGIReceiveCallable) -> None:
        """Take what the client sends, until it leaves."""
        await ASGIHTTPConnection.handle_messages(self, request, receive)
        if not self._line.complete:
            nursery.cancel_scope.cancel()

    async def _respond(
        self, nursery: trio.Nursery, request: Request, send: ASGISendCallable, name: tuple[bytes, bytes]
    ) -> None:
        """Answer; there is no limit in time, only on silence, and that is the server's."""

        async def send_noting(event: ASGISendEvent) -> None:
            await send(self._note(event, name))

        response = await self.app.handle_request(request)
        try:
            await self._send_response(send_noting, response)
        except BrokenOffError as error:
            cast("PackageServer", self.app).statistics.broken_off_answers += 1
            structlog.get_logger().warning("answer broken off", path=self._line.path, error=str(error))
        nursery.cancel_scope.cancel()

    def _note(self, event: ASGISendEvent, name: tuple[bytes, bytes]) -> ASGISendEvent:
        """Note what is sent, and return it, with the request's name in its head."""
        line = self._line
        if event["type"] == "http.response.start":
            line.status = event["status"]
            return {**event, "headers": [*event["headers"], name]}
        if event["type"] == "http.response.body":
            if not suppress_body(line.method, line.status):
                line.body_bytes += len(event["body"])
            line.complete = not event["more_body"]
        return event

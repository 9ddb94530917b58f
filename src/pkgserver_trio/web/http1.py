"""HTTP/1.0 and 1.1 on one connection, and nothing else.

HTTP/2 by prior knowledge, h2c upgrades and WebSockets would pass by everything said here:

1. A request is answered when it is whole, within the bounds of `request_limits`; what is beyond them is refused with
   one line, and that is the end of the connection.
2. While an answer runs nothing more is read than fits one buffer, so a flood of requests waits in the network.
3. `100 Continue` is never said: nobody is asked for a body.

`H11Protocol` is Hypercorn's inside: its version is pinned, tests/web/test_traps.py tells when it moves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import h11
import structlog
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import events
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream

from pkgserver_trio.web.request import name_request
from pkgserver_trio.web.request_limits import MAX_BODY_BYTES, refusal_of, refusal_of_unfinished, write_refusal


@dataclass(frozen=True)
class Receiving(Event):
    """A request has begun to arrive and is not whole."""


class Http1Protocol(H11Protocol):
    """Reads requests, has them answered one after the other."""

    connection: h11.Connection
    _request: h11.Request | None = None
    _body: bytes = b""

    async def refuse(self, status: int) -> None:
        """Answer the request, or what there is of it, with an error, and close."""
        await self.send(Updated(idle=False))
        with_body = self._request is None or self._request.method != b"HEAD"
        name = name_request(self._request.headers if self._request else ())
        self._tell_of_refusal(status)
        headers = [*self.config.response_headers("h11"), name]
        await self.send(RawData(write_refusal(status, headers, with_body=with_body)))
        await self.send(Closed())

    def _tell_of_refusal(self, status: int) -> None:
        begun = self._request
        method, target = (begun.method.decode("ascii"), begun.target.decode("ascii")) if begun else ("", "")
        path, peer = target.partition("?")[0], (self.client or [""])[0]
        structlog.get_logger().info("request refused", method=method, path=path, status=status, peer=peer)

    async def stream_send(self, event: events.Event) -> None:
        """Send part of an answer; while the server stops, each is the last on its connection."""
        if isinstance(event, events.Response) and self.context.terminated.is_set():
            event = replace(event, headers=[*event.headers, (b"connection", b"close")])
        await super().stream_send(event)

    async def _handle_events(self) -> None:
        while True:
            try:
                event = self.connection.next_event()
            except h11.RemoteProtocolError as error:
                await self.refuse(self._refusal_of(error))
                return
            if event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
                break
            if event is h11.PAUSED:
                await self.can_read.clear()
                await self.can_read.wait()
            elif (refusal := self._take(event)) is not None:
                await self.refuse(refusal)
                return
            elif isinstance(event, h11.EndOfMessage):
                await self._answer()
        if self._has_part_of_a_request():
            await self.send(Receiving())

    def _refusal_of(self, error: h11.RemoteProtocolError) -> int:
        status = error.error_status_hint
        if status == 431 and self._request is None:  # noqa: PLR2004 # h11's word for its one limit
            return refusal_of_unfinished(self.connection.trailing_data[0])
        return status

    def _take(self, event: object) -> int | None:
        """Keep a part of the request; return the status that refuses it."""
        if isinstance(event, h11.Request):
            self._request = event
            return refusal_of(event.method, event.target, event.http_version, list(event.headers))
        if isinstance(event, h11.Data):
            self._body += event.data
        return 413 if len(self._body) > MAX_BODY_BYTES else None

    def _has_part_of_a_request(self) -> bool:
        state = self.connection.their_state
        return state is h11.SEND_BODY or (state is h11.IDLE and bool(self.connection.trailing_data[0]))

    async def _answer(self) -> None:
        """Begin the answer to the request, which is whole."""
        assert self._request is not None  # noqa: S101 # h11 tells of no end without a beginning
        request, body = self._request, self._body
        self._request, self._body = None, b""
        await self.send(Updated(idle=False))
        stream = self.stream = HTTPStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        for event in (self._head(request), events.Body(STREAM_ID, body), events.EndBody(STREAM_ID)):
            await stream.handle(event)  # the first of them may have been answered, and `self.stream` be none

    def _head(self, request: h11.Request) -> events.Request:
        """Return a request without its `Upgrade`, which RFC 9110, 7.8 allows to ignore."""
        return events.Request(
            stream_id=STREAM_ID,
            headers=[(name, value) for name, value in request.headers if name != b"upgrade"],
            http_version=request.http_version.decode("ascii"),
            method=request.method.decode("ascii"),
            raw_path=request.target,
            state=self.connection_state,
        )

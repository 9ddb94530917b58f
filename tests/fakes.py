"""Scriptable upstreams, in the language of ``tests.behaviours``, over real sockets and in memory.

1. ``FakeUpstream`` is a loopback server and can misbehave down to the byte. ``FakeTransport`` is the same inside
   httpx, with no socket, so that the autojump clock skips its waits; it raises what httpx raises over a socket.
2. Both count every request at its arrival; ``wait_for`` lets a test act when one is there, without sleeping.
"""

from __future__ import annotations

import socket
import struct
from contextlib import AsyncExitStack, contextmanager, suppress
from functools import partial
from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Self

import httpx
import trio
from tests.behaviours import (
    BEFORE_HEAD,
    MISSING,
    Behaviour,
    Head,
    Pieces,
    Request,
    Script,
    Signal,
    Step,
    choose,
    good,
    redirect,
    strong_etag,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterator, Mapping

__all__ = [
    "BEFORE_HEAD",
    "MISSING",
    "Behaviour",
    "FakeNetwork",
    "FakeTransport",
    "FakeUpstream",
    "Pieces",
    "Request",
    "Script",
    "good",
    "redirect",
    "refusing_url",
    "strong_etag",
]

_NOTHING: Final[Mapping[Any, Any]] = MappingProxyType({})


@contextmanager
def refusing_url() -> Iterator[str]:
    """Yield a URL that refuses connections; its port is held, so nobody else can begin to listen there."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


class _Scripted:
    """Chooses behaviours and remembers requests; ``files``, ``script`` and their content may change at any time."""

    def __init__(self, files: Mapping[str, bytes] = _NOTHING, script: Script = _NOTHING) -> None:
        self.files, self.script = files, script
        self.seen: list[Request] = []
        self._arrivals = trio.lowlevel.ParkingLot()

    def requests(self, method: str, path: str) -> int:
        """Return how many such requests have arrived."""
        return sum((request.method, request.path) == (method, path) for request in self.seen)

    async def wait_for(self, method: str, path: str, count: int = 1) -> None:
        """Return once ``count`` such requests have arrived."""
        while self.requests(method, path) < count:
            await self._arrivals.park()

    def _admit(self, request: Request) -> Behaviour:
        self.seen.append(request)
        self._arrivals.unpark_all()
        return choose(request, self.requests(request.method, request.path), self.script, self.files)


class FakeUpstream(_Scripted):
    """A server on a loopback port: ``async with FakeUpstream(files=...) as upstream``, then ``upstream.url``.

    With ``tls`` it speaks HTTPS, and can do no RESET.
    """

    url: str
    host = "127.0.0.1"
    port = 0  # any that is free; set before the start, it can be that of a server that ended

    def __init__(
        self, files: Mapping[str, bytes] = _NOTHING, script: Script = _NOTHING, tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(files, script)
        self._tls = tls

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        nursery = await self._stack.enter_async_context(trio.open_nursery())
        listeners = await nursery.start(partial(trio.serve_tcp, self._serve, self.port, host=self.host))
        self.port = listeners[0].socket.getsockname()[1]
        scheme = "http" if self._tls is None else "https"
        self.url = f"{scheme}://{self.host}:{self.port}"
        self._stack.callback(nursery.cancel_scope.cancel)
        return self

    async def __aexit__(self, *_error: object) -> None:
        # The nursery is not shown the test's own error, which so leaves as it is and not in a group.
        await self._stack.aclose()

    async def _serve(self, socket_stream: trio.SocketStream) -> None:
        tls = self._tls
        stream = socket_stream if tls is None else trio.SSLStream(socket_stream, tls, server_side=True)
        with suppress(trio.BrokenResourceError):  # the client left, as it may
            while (request := await _read_request(stream)) is not None:
                behaviour = self._admit(request)
                if behaviour.connect != "accept":
                    raise ValueError(f"{behaviour.connect!r} is too late for an accepted socket")
                if not await _play(stream, behaviour.steps(request)):
                    return


async def _read_request(stream: trio.abc.Stream) -> Request | None:
    """Return the next request (none has a body), or None when the client is gone."""
    text = b""
    while not text.endswith(b"\r\n\r\n"):
        received = await stream.receive_some()
        if not received:
            return None
        text += received
    return Request.parse(text, trio.current_time())


async def _play(stream: trio.abc.Stream, steps: Iterator[Step]) -> bool:
    """Send what the steps say; return whether the connection can serve another request."""
    chunked = False
    for step in steps:
        match step:
            case Head():
                chunked = step.length is None
                await stream.send_all(step.encode())
            case bytes():
                await stream.send_all(b"%x\r\n%b\r\n" % (len(step), step) if chunked else step)
            case Signal.BODY_END:
                await stream.send_all(b"0\r\n\r\n" if chunked else b"")
                chunked = False
            case Signal.RESET:
                assert isinstance(stream, trio.SocketStream)
                # Lingering for 0 seconds turns the close that follows into a reset.
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
            case Signal.CLOSE:
                return False
            case _:
                await step()
    return True


class FakeTransport(_Scripted, httpx.AsyncBaseTransport):
    """An upstream without sockets, for ``httpx.AsyncClient(transport=...)``; it honours httpx's timeouts.

    A refused or hanging connection counts as a request too: that it was tried is what matters.
    """

    def __init__(self, files: Mapping[str, bytes] = _NOTHING, script: Script = _NOTHING) -> None:
        super().__init__(files, script)
        self._open: set[_Reception] = set()

    @property
    def open_answers(self) -> int:
        """How many answers the code under test has neither finished nor closed."""
        return len(self._open)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await trio.lowlevel.checkpoint()
        path = request.url.raw_path.decode("ascii")
        seen = Request(request.method, path, dict(request.headers.items()), trio.current_time())
        behaviour = self._admit(seen)
        seconds: Mapping[str, float | None] = request.extensions.get("timeout", {})
        if behaviour.connect == "refuse":
            raise httpx.ConnectError("refused", request=request)
        if behaviour.connect == "hang":
            with _patience(seconds.get("connect")):
                await trio.sleep_forever()
            raise httpx.ConnectTimeout("no connection", request=request)
        reception = _Reception(behaviour.steps(seen), seconds.get("read"), self._open)
        head = await reception.head()
        return httpx.Response(head.status, headers=dict(head.headers), stream=reception)


def _patience(seconds: float | None) -> trio.CancelScope:
    return trio.move_on_after(inf if seconds is None else seconds)


class _Reception(httpx.AsyncByteStream):
    """The client's end of one answer, as httpx would see it come out of a socket."""

    def __init__(self, steps: Iterator[Step], read_seconds: float | None, still_open: set[_Reception]) -> None:
        self._steps, self._read_seconds, self._still_open = steps, read_seconds, still_open
        self._left: int | None = 0

    async def head(self) -> Head:
        arrival = await self._arrival()
        if not isinstance(arrival, Head):
            raise httpx.RemoteProtocolError("server disconnected without sending a response")
        self._left = arrival.length
        self._still_open.add(self)
        return arrival

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._left == 0:
            raise StopAsyncIteration
        arrival = await self._arrival()
        if isinstance(arrival, bytes):
            piece = arrival[: self._left]
            self._left = None if self._left is None else self._left - len(piece)
            return piece
        if arrival is Signal.BODY_END and self._left is None:
            raise StopAsyncIteration
        raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")

    async def aclose(self) -> None:
        self._still_open.discard(self)

    async def _arrival(self) -> Head | bytes | Signal:
        """Return what comes next; raise httpx's ReadError for a reset, ReadTimeout for too long a silence."""
        with _patience(self._read_seconds):
            for step in self._steps:
                match step:
                    case Signal.RESET:
                        raise httpx.ReadError("reset")
                    case Head() | bytes() | Signal():
                        await trio.lowlevel.checkpoint()
                        return step
                    case _:
                        await step()
            return Signal.CLOSE
        raise httpx.ReadTimeout("silence")


class FakeNetwork(httpx.AsyncBaseTransport):
    """Several transports by host, for one client of several servers; every other host refuses."""

    def __init__(self, hosts: Mapping[str, httpx.AsyncBaseTransport]) -> None:
        self.hosts = hosts

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        server = self.hosts.get(request.url.host)
        if server is None:
            raise httpx.ConnectError("no such host", request=request)
        return await server.handle_async_request(request)

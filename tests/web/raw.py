"""A client on a bare socket, for tests in which bytes, their order and the end of a connection matter."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from pkgserver_trio.web.client_connection import ClientConnection

_PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]


class RawClient:
    """One connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._received = b""

    async def ask(self, path: str, *lines: str, method: str = "GET", version: str = "1.1") -> None:
        """Send a request that has no body."""
        head = "\r\n".join([f"{method} {path} HTTP/{version}", "Host: pkg.invalid", *lines, "", ""])
        await self.stream.send_all(head.encode("latin-1"))

    async def head(self) -> Head:
        """Receive up to the end of a head; what came after it is kept. Raises EOFError."""
        while b"\r\n\r\n" not in self._received:
            piece = await self._receive()
            if not piece:
                raise EOFError(self._received)
            self._received += piece
        text, _, self._received = self._received.partition(b"\r\n\r\n")
        first, *lines = text.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return Head(int(first.split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs})

    async def some(self) -> bytes:
        """Receive some bytes of what follows; empty at the end, in whichever way the server ended it."""
        piece, self._received = self._received, b""
        return piece or await self._receive()

    async def exactly(self, size: int) -> bytes:
        """Receive `size` bytes. Raises EOFError."""
        body = bytearray()
        while len(body) < size:
            piece = await self.some()
            if not piece:
                raise EOFError(len(body))
            body += piece
        self._received = bytes(body[size:])
        return bytes(body[:size])

    async def rest(self) -> bytes:
        """Receive until the server ends the connection."""
        body = bytearray()
        while piece := await self.some():
            body += piece
        return bytes(body)

    async def _receive(self) -> bytes:
        try:
            return bytes(await self.stream.receive_some(_PIECE_BYTES))
        except trio.BrokenResourceError:  # reset: how an answer is broken off is not the point of any test
            return b""


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[RawClient]:
    """Connect to a port of the loopback interface."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        yield RawClient(stream)


def unread_by(connection: ClientConnection) -> bytes:
    """Return what a connection of the server has received and made nothing of yet."""
    protocol: Any = connection.protocol
    return bytes(protocol.connection.trailing_data[0])

"""One client's connection: how long it may be silent, and how it ends.

1. Two clocks: one while nothing of a request has come, one from a request's first byte to its last. An answer has none,
   but a client that takes nothing of it for a while is cut off. A send cannot be cancelled half-way through otherwise:
   the next answer on the connection would begin inside this one.
2. A failure ends the connection, never the server.
3. A last answer is followed by the end of what we send, and only after the client's own end, or a moment, by the close:
   closing on bytes that nobody has read would reset the connection, and the answer be lost with it.

`TCPServer` is Hypercorn's inside: its version is pinned, tests/web/test_traps.py tells when it moves.
"""

from __future__ import annotations

import contextlib
import socket as sockets
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
import trio
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import AppWrapper, ConnectionState
from hypercorn.utils import parse_socket_addr

from pkgserver_trio.web.http1 import Http1Protocol, Receiving

if TYPE_CHECKING:
    from hypercorn.config import Config
    from hypercorn.trio.worker_context import WorkerContext

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s
_LINGER_SECONDS = 2
_RECEIVE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Times:
    """How long a client may be silent, in seconds: between requests, within one, and while it is sent an answer."""

    idle_seconds: float
    request_seconds: float
    stall_seconds: float


@dataclass(frozen=True, slots=True)
class Host:
    """What all connections of a server share; `waiting` holds those without an answer to send, longest first."""

    app: AppWrapper
    config: Config
    context: WorkerContext
    times: Times
    waiting: dict[ClientConnection, None]


class ClientConnection(TCPServer):
    """One client's connection."""

    stream: Any  # a trio.SocketStream; Hypercorn declares its TLS variant

    def __init__(self, host: Host, stream: trio.SocketStream) -> None:
        super().__init__(host.app, host.config, host.context, ConnectionState({}), stream)  # type: ignore[arg-type] # see `stream`
        self._times = host.times
        self._waiting = host.waiting
        # Hypercorn does not read while an answer runs, and waits for its end, which a broken connection never brings.
        self._reading = trio.CancelScope()
        self._receiving = False
        self._answered = False

    async def run(self) -> None:
        """Serve requests until either side closes; raises nothing but cancellation (rule 2)."""
        with contextlib.closing(self.stream.socket):
            try:
                await self._serve()
            except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # the client went away, in one of the ways in which clients do
            except* Exception:  # noqa: BLE001 # rule 2: it is told, and ends this connection only
                structlog.get_logger().exception("defect on a connection")
            if self._answered:
                self._waiting[self] = None
                await linger(self.stream)

    async def _serve(self) -> None:
        socket = self.stream.socket
        async with TaskGroup() as group:
            protocol = Http1Protocol(
                self.app,
                self.config,
                self.context,
                group,
                ConnectionState({"cut": self.cut}),  # for answers that have no end of their own
                False,  # noqa: FBT003 # Hypercorn's order: not TLS
                parse_socket_addr(socket.family, socket.getpeername()),
                parse_socket_addr(socket.family, socket.getsockname()),
                self.protocol_send,
            )
            self.protocol = protocol  # type: ignore[assignment] # Hypercorn's wrapper would choose HTTP/2
            self._wait()
            with self._reading:
                await self._read_data()
            if self._reading.cancelled_caught and self._receiving:
                await protocol.refuse(408)

    async def protocol_send(self, event: Event) -> None:
        """Do what the protocol says: send, or note what it waits for."""
        match event:
            case RawData():
                await self._send(event.data)
            case Receiving():
                self._receive()
            case Updated(idle=True):
                self._wait()
            case Updated():
                self._attend()
            case Closed():
                self._answered = True
                self._reading.cancel()
                await self.protocol.handle(event)

    def _wait(self) -> None:
        """Begin the time between requests; there is none while the server stops."""
        self._waiting[self] = None
        stopping = self.context.terminated.is_set()
        self._reading.deadline = trio.current_time() + (0 if stopping else self._times.idle_seconds)

    def _receive(self) -> None:
        """Begin the time of a request, unless it has begun."""
        if not self._receiving:
            self._receiving = True
            self._reading.deadline = trio.current_time() + self._times.request_seconds

    def _attend(self) -> None:
        self._waiting.pop(self, None)
        self._receiving = False
        self._reading.deadline = float("inf")

    def dismiss(self) -> None:
        """Close at once if nothing of a request has come, as the server stops."""
        if self in self._waiting and not self._receiving:
            self._reading.cancel()

    async def _send(self, piece: bytes) -> None:
        async with self.send_lock:
            try:
                with trio.CancelScope(shield=True):
                    await self._send_while_taken(piece)
            except (OSError, trio.ClosedResourceError, trio.TooSlowError):
                self.cut()
                await self.protocol.handle(Closed())

    async def _send_while_taken(self, piece: bytes) -> None:
        rest = memoryview(piece)
        while rest:
            with trio.fail_after(self._times.stall_seconds):
                count = await self.stream.socket.send(rest)
            rest = rest[count:]

    def cut(self) -> None:
        """Reset the connection; whoever sends or receives on it wakes up."""
        self._receiving = False
        self._reading.cancel()
        with contextlib.suppress(OSError):  # closed already
            self.stream.socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, _RESET_ON_CLOSE)
        self.stream.socket.close()


async def linger(stream: trio.SocketStream) -> None:
    """Send the end, and wait until the client does or a moment has passed (rule 3)."""
    with trio.move_on_after(_LINGER_SECONDS):
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await stream.send_eof()
            while await stream.receive_some(_RECEIVE_BYTES):
                pass

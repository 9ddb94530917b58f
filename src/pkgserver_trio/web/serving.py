"""Hypercorn's trio worker, told what it cannot be configured to do: HTTP/1 only, bounded silence, a hard end.

1. HTTP/2 by prior knowledge, h2c upgrades and WebSockets would pass by everything said here: none is spoken.
2. A client that takes nothing for a while is cut off. A send cannot be cancelled half-way through otherwise: the next
   answer on the connection would begin inside this one.
3. On stopping: no new connections, then `graceful_seconds` for the answers that run, then every connection is cut.
4. A connection's failure ends that connection, never the server.

`TCPServer`, `H11Protocol` and `WorkerContext` are Hypercorn's inside: its version is pinned, tests/web/test_traps.py
tells when it moves.
"""

from __future__ import annotations

import contextlib
import logging
import socket as sockets
import struct
from functools import partial
from typing import TYPE_CHECKING, Any

import h11
import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypercorn.typing import ASGIFramework

    from pkgserver_trio.settings import Settings

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s
_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\nCache-Control: no-store\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 21\r\n\r\ntoo many connections\n"
)


class Http1Protocol(H11Protocol):
    """HTTP/1.0 and 1.1 and nothing else (rule 1). An `Upgrade` is ignored, as RFC 9110, 7.8 allows."""

    async def _check_protocol(self, event: h11.Request) -> None:
        """Let the base class find no other protocol."""

    async def _create_stream(self, request: h11.Request) -> None:
        if request.method == b"PRI":  # HTTP/2 by prior knowledge
            await self._send_error_response(505)
            await self.send(Closed())
            return
        headers = [(name, value) for name, value in request.headers if name != b"upgrade"]
        plain = h11.Request(
            method=request.method, target=request.target, headers=headers, http_version=request.http_version
        )
        await super()._create_stream(plain)


class ClientConnection(TCPServer):
    """One client's connection."""

    stream: Any  # a trio.SocketStream; Hypercorn declares its TLS variant

    def __init__(self, server: Server, stream: trio.SocketStream) -> None:
        super().__init__(server.app, server.config, server.context, ConnectionState({}), stream)  # type: ignore[arg-type] # see `stream`
        self._stall_seconds = server.stall_seconds
        # Hypercorn does not read while an answer runs, and waits for its end, which a broken connection never brings.
        self._reading = trio.CancelScope()

    async def run(self) -> None:
        """Serve requests until either side closes; raises nothing but cancellation (rule 4)."""
        try:
            await self._serve()
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client went away, in one of the ways in which clients do
        except* Exception:  # noqa: BLE001 # rule 4: it is told, and ends this connection only
            structlog.get_logger().exception("defect on a connection")
        finally:
            with trio.move_on_after(1, shield=True):
                await self._close()

    async def _serve(self) -> None:
        socket = self.stream.socket
        async with TaskGroup() as group:
            self._task_group = group
            self.protocol = Http1Protocol(  # type: ignore[assignment] # Hypercorn's wrapper would choose HTTP/2
                self.app,
                self.config,
                self.context,
                group,
                ConnectionState({}),
                False,  # noqa: FBT003 # Hypercorn's order: not TLS
                parse_socket_addr(socket.family, socket.getpeername()),
                parse_socket_addr(socket.family, socket.getsockname()),
                self.protocol_send,
            )
            await self.idle_task.restart(group, self._idle_timeout)
            with self._reading:
                await self._read_data()
            await self.idle_task.stop()  # or the connection would stay open, idle, until its time is up

    async def protocol_send(self, event: Event) -> None:
        """Send what the protocol says; a client that takes nothing of it is cut off (rule 2)."""
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            if isinstance(event, Closed):
                self._reading.cancel()
            return
        async with self.send_lock:
            try:
                with trio.CancelScope(shield=True):
                    await self._send_while_taken(event.data)
            except (OSError, trio.ClosedResourceError, trio.TooSlowError):
                self.cut()
                await self.protocol.handle(Closed())

    async def _send_while_taken(self, piece: bytes) -> None:
        rest = memoryview(piece)
        while rest:
            with trio.fail_after(self._stall_seconds):
                count = await self.stream.socket.send(rest)
            rest = rest[count:]

    def cut(self) -> None:
        """Reset the connection; whoever sends or receives on it wakes up."""
        self._reading.cancel()
        with contextlib.suppress(OSError):  # closed already
            self.stream.socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, _RESET_ON_CLOSE)
        self.stream.socket.close()


class Server:
    """An ASGI application behind listening sockets."""

    def __init__(self, app: ASGIFramework, *, idle_seconds: float, stall_seconds: float, max_connections: int) -> None:
        self.app = ASGIWrapper(app)
        self.config = _configure(idle_seconds)
        self.context = WorkerContext(None)
        self.stall_seconds = stall_seconds
        self.connections: set[ClientConnection] = set()
        self._max_connections = max_connections

    @classmethod
    def from_settings(cls, app: ASGIFramework, settings: Settings) -> Server:
        """Return a server with the operator's limits."""
        return cls(
            app,
            idle_seconds=settings.request_head_seconds,
            stall_seconds=settings.read_stall_seconds,
            max_connections=settings.max_connections,
        )

    async def serve(
        self, listeners: Sequence[trio.SocketListener], stopping: trio.Event, *, graceful_seconds: float
    ) -> None:
        """Accept and answer until `stopping`, then end as rule 3 says."""
        async with trio.open_nursery() as ending:
            async with trio.open_nursery() as handlers:
                async with trio.open_nursery() as accepting:
                    accepting.start_soon(
                        partial(trio.serve_listeners, self._handle, list(listeners), handler_nursery=handlers)
                    )
                    await stopping.wait()
                    accepting.cancel_scope.cancel()
                await self.context.terminated.set()
                ending.start_soon(self._cut_all, handlers, graceful_seconds)  # noqa: ASYNC111 # it is cancelled when they end
            ending.cancel_scope.cancel()

    async def _cut_all(self, handlers: trio.Nursery, graceful_seconds: float) -> None:
        await trio.sleep(graceful_seconds)
        handlers.cancel_scope.cancel()
        for connection in tuple(self.connections):
            connection.cut()

    async def _handle(self, stream: trio.SocketStream) -> None:
        if len(self.connections) >= self._max_connections:
            await _refuse(stream)
            return
        connection = ClientConnection(self, stream)
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)


async def _refuse(stream: trio.SocketStream) -> None:
    with trio.move_on_after(1):
        with contextlib.suppress(trio.BrokenResourceError):  # it left by itself
            await stream.send_all(_TOO_MANY)
    await trio.aclose_forcefully(stream)


def _configure(idle_seconds: float) -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    config.include_server_header = False
    config.keep_alive_max_requests = 2**31  # a proxy's connection may live as long as it is used
    config.keep_alive_timeout = idle_seconds
    return config

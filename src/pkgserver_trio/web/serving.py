"""The listening side: who is let in, and how all of it ends.

1. No more than `max_connections`. One more takes the place of the connection that waits longest for a request; where
   all of them have one, it is refused with a reason.
2. Without a descriptor for a connection that waits to be accepted, it goes on waiting, and nothing else does.
3. On stopping: no new connections, then `graceful_seconds` for the answers that run, then every connection is cut.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import resource
from typing import TYPE_CHECKING

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext

from pkgserver_trio.web.client_connection import ClientConnection, Host, Times, linger
from pkgserver_trio.web.descriptors import connections_within
from pkgserver_trio.web.request_limits import MAX_HEAD_BYTES, write_refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypercorn.typing import ASGIFramework

    from pkgserver_trio.settings import Settings

#: What accept(2) says when the process, or the machine, has no room for one more connection.
_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_SHORTAGE_PAUSE_SECONDS = 0.1
#: Two shortages closer than this are one, and told once.
_SPELL_SECONDS = 60
#: Who is told that there is no room holds a descriptor meanwhile; beyond so many nobody is told.
_MAX_REFUSALS = 16


class Server:
    """An ASGI application behind listening sockets."""

    def __init__(self, app: ASGIFramework, *, times: Times, max_connections: int) -> None:
        self.app = ASGIWrapper(app)
        self.config = _configure()
        self.context = WorkerContext(None)
        self.connections: set[ClientConnection] = set()
        self.max_connections = max_connections
        self._host = Host(self.app, self.config, self.context, times, {})
        self._refusals = 0
        self._spell_ends = float("-inf")

    @classmethod
    def from_settings(cls, app: ASGIFramework, settings: Settings) -> Server:
        """Return a server with the operator's limits, and no more connections than there are descriptors for."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        fitting = connections_within(
            limit,
            settings.max_connections,
            downloads=settings.max_downloads,
            storage_servers=len(settings.storage_servers),
        )
        if fitting < settings.max_connections:
            structlog.get_logger().warning(
                "fewer connections than configured: the limit of open files is low",
                connections=fitting,
                configured=settings.max_connections,
                open_files=limit,
            )
        seconds = settings.request_head_seconds
        return cls(app, times=Times(seconds, seconds, settings.read_stall_seconds), max_connections=fitting)

    async def serve(
        self, listeners: Sequence[trio.SocketListener], stopping: trio.Event, *, graceful_seconds: float
    ) -> None:
        """Accept and answer until `stopping`, then end as rule 3 says."""
        async with trio.open_nursery() as ending:
            async with trio.open_nursery() as handlers:
                async with trio.open_nursery() as accepting:
                    for listener in listeners:
                        accepting.start_soon(self._accept, listener, handlers)
                    await stopping.wait()
                    accepting.cancel_scope.cancel()
                await self.context.terminated.set()
                for connection in self.connections:
                    connection.dismiss()
                ending.start_soon(self._cut_all, handlers, graceful_seconds)  # noqa: ASYNC111 # it is cancelled when they end
            ending.cancel_scope.cancel()

    async def _cut_all(self, handlers: trio.Nursery, graceful_seconds: float) -> None:
        await trio.sleep(graceful_seconds)
        handlers.cancel_scope.cancel()
        for connection in tuple(self.connections):
            connection.cut()

    async def _accept(self, listener: trio.SocketListener, handlers: trio.Nursery) -> None:
        async with listener:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:
                    if error.errno not in _SHORTAGES:
                        raise
                    self._tell(error)
                    await trio.sleep(_SHORTAGE_PAUSE_SECONDS)
                else:
                    handlers.start_soon(self._handle, stream)

    def _tell(self, shortage: OSError) -> None:
        now = trio.current_time()
        if now >= self._spell_ends:
            structlog.get_logger().warning("no connection can be accepted", error=shortage.strerror)
        self._spell_ends = now + _SPELL_SECONDS

    async def _handle(self, stream: trio.SocketStream) -> None:
        if len(self.connections) >= self.max_connections and not self._make_room():
            await self._refuse(stream)
            return
        connection = ClientConnection(self._host, stream)
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)
            self._host.waiting.pop(connection, None)

    def _make_room(self) -> bool:
        """Close the connection that waits longest for a request; False when all have one (rule 1)."""
        longest = next(iter(self._host.waiting), None)
        if longest is None:
            return False
        del self._host.waiting[longest]
        self.connections.discard(longest)
        longest.cut()
        return True

    async def _refuse(self, stream: trio.SocketStream) -> None:
        with contextlib.closing(stream.socket):
            if self._refusals == _MAX_REFUSALS:
                return
            self._refusals += 1
            try:
                await stream.send_all(write_refusal(503, self.config.response_headers("h11")))
                await linger(stream)
            except trio.BrokenResourceError:
                pass  # it left by itself
            finally:
                self._refusals -= 1


def _configure() -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    config.include_server_header = False
    config.h11_max_incomplete_size = MAX_HEAD_BYTES
    return config

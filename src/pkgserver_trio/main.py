"""The composition root: everything is built here, once, and handed down; and the nursery tree.

    downloads     owns every flight; whoever wants one only waits
    └ services    registry loop and watchdog, cache keeper: they begin flights, so they end before these are waited for
      └ clients   accepts, answers; ends first

On `stopping`: no new connections, time for the answers, then time for the flights, then the end.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import structlog
import trio

from pkgserver_trio import __version__
from pkgserver_trio.building import build_app, build_library, build_registries, build_verifying
from pkgserver_trio.keeper import keep
from pkgserver_trio.logs.hub import LogHub
from pkgserver_trio.mirror.crc import CRC_BYTES
from pkgserver_trio.mirror_building import build_mirror, open_mirror
from pkgserver_trio.opening import StartError, empty, find_hit_logs, make_folders, open_verified
from pkgserver_trio.registries.origin_check import Origins, open_origins
from pkgserver_trio.storage.store_lock import owned
from pkgserver_trio.supervise import patience_seconds, watch
from pkgserver_trio.tarballs.inflate import INFLATE_LIBRARY
from pkgserver_trio.upstream.lookups import own_names
from pkgserver_trio.upstream.storage_servers import open_storage_servers
from pkgserver_trio.vitals import watch_vitals
from pkgserver_trio.web.admin import Admin
from pkgserver_trio.web.serving import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import httpx

    from pkgserver_trio.library import Library
    from pkgserver_trio.mirror.mirror import Mirror
    from pkgserver_trio.mirror_building import MirrorParts
    from pkgserver_trio.registries.registries import Registries
    from pkgserver_trio.settings import Settings
    from pkgserver_trio.storage.store_lock import Ownership
    from pkgserver_trio.storage.verified import Verified
    from pkgserver_trio.upstream.storage_servers import StorageServer
    from pkgserver_trio.verifying import Verifying


class _Parts(NamedTuple):
    """What the nursery tree is built upon, opened before it and closed after it."""

    settings: Settings
    hit_logs: list[Path]
    ownership: Ownership
    servers: tuple[StorageServer, ...]
    origins: Origins
    verified: Verified
    mirror: MirrorParts | None
    listeners: list[trio.SocketListener]
    hub: LogHub
    last_resort: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Running:
    """What `run` tells its starter: where it listens, and how to stop it."""

    url: str
    stopping: trio.Event
    stopped: trio.Event
    library: Library
    mirror: Mirror | None
    registries: Registries
    server: Server
    hub: LogHub
    verifying: Verifying


async def run(
    settings: Settings,
    stopping: trio.Event,
    *,
    hub: LogHub | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    last_resort: Callable[[], None] = lambda: None,
    task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `stopping`, then drain. `hub` has who watches the log.

    `transport` stands in for the network upstream in tests. Raises StartError, StoreLockedError, and HangError, after a
    call of `last_resort`, when a part of it hangs.
    """
    root = Path(settings.storage_root)
    make_folders(root)
    hit_logs = find_hit_logs(settings.hit_logs)
    async with owned(root) as ownership, listening(*settings.listen) as listeners:
        empty(root / "temp")
        with closing(open_verified(root / "verified.sqlite")) as verified:
            async with (
                open_storage_servers(settings, transport=transport) as servers,
                open_origins(settings, transport=transport) as origins,
                open_mirror(settings, transport=transport) as mirror,
                own_names(),
            ):
                opened = (ownership, servers, origins, verified, mirror, listeners)
                parts = _Parts(settings, hit_logs, *opened, hub or LogHub(), last_resort)
                await _run_tree(parts, stopping, task_status)


async def _run_tree(parts: _Parts, stopping: trio.Event, task_status: trio.TaskStatus[Running]) -> None:
    async with trio.open_nursery() as downloads:
        running = _assemble(parts, stopping, downloads)
        library = running.library
        async with trio.open_nursery() as services:
            services.start_soon(keep, library, parts.hit_logs)
            if running.mirror is not None:
                services.start_soon(keep, running.mirror.library)
            services.start_soon(watch_vitals, library.statistics, library.store)
            services.start_soon(parts.ownership.keep)
            services.start_soon(running.registries.run)
            services.start_soon(_watch, parts, running.registries)
            services.start_soon(running.verifying.run)
            services.start_soon(_drain, stopping, running, parts)
            libraries = {"inflate": INFLATE_LIBRARY, "crc": " ".join(CRC_BYTES)}
            structlog.get_logger().info("serving", url=running.url, version=__version__, **libraries)
            task_status.started(running)
            graceful_seconds = parts.settings.graceful_seconds
            await running.server.serve(parts.listeners, stopping, graceful_seconds=graceful_seconds)
            services.cancel_scope.cancel()
        downloads.cancel_scope.deadline = trio.current_time() + parts.settings.drain_seconds
    await library.store.save_access_times()
    if running.mirror is not None:
        await running.mirror.library.store.save_access_times()
    running.stopped.set()


def _assemble(parts: _Parts, stopping: trio.Event, downloads: trio.Nursery) -> Running:
    settings = parts.settings
    library = build_library(settings, parts.servers, parts.verified, downloads)
    registries = build_registries(settings, parts.servers, parts.origins, library)
    verifying = build_verifying(settings, library)
    mirror = build_mirror(settings, parts.mirror, downloads)
    admin = Admin(library, parts.hub, verifying, settings.admin_token_sha256, mirror)
    app = build_app(settings, library, registries, admin, mirror)
    server = Server.from_settings(cast("Any", app), settings)
    app.metrics.watch(server.connections)
    url = url_of(parts.listeners[0])
    return Running(url, stopping, trio.Event(), library, mirror, registries, server, parts.hub, verifying)


async def _watch(parts: _Parts, registries: Registries) -> None:
    patience = patience_seconds(parts.settings)
    await watch(registries.turns, patience_seconds=patience, last_resort=parts.last_resort)


async def _drain(stopping: trio.Event, running: Running, parts: _Parts) -> None:
    await stopping.wait()
    parts.ownership.announce_end(parts.settings.graceful_seconds + parts.settings.drain_seconds)
    running.library.downloads.drain()
    if running.mirror is not None:
        running.mirror.drain()
    await running.hub.close()


@asynccontextmanager
async def listening(host: str, port: int) -> AsyncIterator[list[trio.SocketListener]]:
    """Listen on `host`, all its addresses, and `port` (0: any). Raises StartError."""
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise StartError(f"cannot listen on {host}, port {port}: {error.strerror or error}") from error
    try:
        yield listeners
    finally:
        for listener in listeners:
            listener.socket.close()


def url_of(listener: trio.SocketListener) -> str:
    """Return the URL of what listens there."""
    host, port = listener.socket.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

"""The composition root: everything is built here, once, and handed down; and the nursery tree.

    downloads     owns every flight; whoever wants one only waits
    └ services    registry loop, cache keeper: they begin flights, so they end before the flights are waited for
      └ clients   accepts, answers; ends first

On `stopping`: no new connections, time for the answers, then time for the flights, then the end.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import structlog
import trio

from pkgserver_trio import __version__
from pkgserver_trio.disk import Disk
from pkgserver_trio.downloads import Downloads
from pkgserver_trio.hashing import Hashing
from pkgserver_trio.inflate import INFLATE_LIBRARY
from pkgserver_trio.keeper import keep
from pkgserver_trio.ledger import Ledger
from pkgserver_trio.library import Library
from pkgserver_trio.names import own_names
from pkgserver_trio.origin_check import Origins, open_origins
from pkgserver_trio.publication import Following
from pkgserver_trio.registries import Registries
from pkgserver_trio.store import Store
from pkgserver_trio.store_lock import owned
from pkgserver_trio.tar_stream import TarLimits
from pkgserver_trio.upstream import open_storage_servers
from pkgserver_trio.verified import Verified
from pkgserver_trio.web.app import PackageServer
from pkgserver_trio.web.serving import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from pkgserver_trio.settings import Settings
    from pkgserver_trio.store_lock import Ownership
    from pkgserver_trio.upstream import StorageServer

_FOLDERS = ("cache", "static", "temp", "quarantine")


class StartError(Exception):
    """The server cannot start; the text says why."""


class _Parts(NamedTuple):
    """What the nursery tree is built upon, opened before it and closed after it."""

    settings: Settings
    ownership: Ownership
    servers: tuple[StorageServer, ...]
    origins: Origins
    verified: Verified
    listeners: list[trio.SocketListener]


@dataclass(frozen=True, slots=True)
class Running:
    """What `run` tells its starter: where it listens, and how to stop it."""

    url: str
    stopping: trio.Event
    stopped: trio.Event
    library: Library
    registries: Registries
    server: Server


async def run(
    settings: Settings,
    stopping: trio.Event,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `stopping`, then drain. `transport` stands in for the network upstream in tests.

    Raises StartError, StoreLockedError.
    """
    root = Path(settings.storage_root)
    _make_folders(root)
    async with owned(root) as ownership, listening(*settings.listen) as listeners:
        _empty(root / "temp")
        verified = _open_verified(root / "verified.sqlite")
        try:
            async with (
                open_storage_servers(settings, transport=transport) as servers,
                open_origins(settings, transport=transport) as origins,
                own_names(),
            ):
                parts = _Parts(settings, ownership, servers, origins, verified, listeners)
                await _run_tree(parts, stopping, task_status)
        finally:
            verified.close()


async def _run_tree(parts: _Parts, stopping: trio.Event, task_status: trio.TaskStatus[Running]) -> None:
    settings, ownership, servers, origins, verified, listeners = parts
    stopped = trio.Event()
    async with trio.open_nursery() as downloads:
        library = _build_library(settings, servers, verified, downloads)
        registries = _build_registries(settings, servers, origins, library)
        app = PackageServer(
            library, registries, public_url=settings.public_url, trusted_proxies=settings.trusted_proxies
        )
        server = Server.from_settings(cast("Any", app), settings)
        async with trio.open_nursery() as services:
            services.start_soon(keep, library)
            services.start_soon(ownership.keep)
            services.start_soon(registries.run)
            services.start_soon(_drain, stopping, library)
            url = url_of(listeners[0])
            structlog.get_logger().info("serving", url=url, version=__version__, inflate=INFLATE_LIBRARY)
            task_status.started(Running(url, stopping, stopped, library, registries, server))
            await server.serve(listeners, stopping, graceful_seconds=settings.graceful_seconds)
            services.cancel_scope.cancel()
        downloads.cancel_scope.deadline = trio.current_time() + settings.drain_seconds
    await library.store.save_access_times()
    stopped.set()


async def _drain(stopping: trio.Event, library: Library) -> None:
    await stopping.wait()
    library.downloads.drain()


def _build_library(
    settings: Settings, servers: tuple[StorageServer, ...], verified: Verified, nursery: trio.Nursery
) -> Library:
    store = Store(
        Path(settings.storage_root),
        Disk(),
        verified,
        keep_free_bytes=settings.keep_free_bytes,
        max_cache_bytes=settings.max_cache_bytes,
    )
    hashing = Hashing(TarLimits(settings.max_unpacked_bytes, settings.max_members))
    downloads = Downloads(
        nursery,
        servers,
        store,
        hashing,
        max_downloads=settings.max_downloads,
        negative_seconds=settings.negative_seconds,
    )
    return Library(nursery, store, downloads, hashing)


def _build_registries(
    settings: Settings, servers: tuple[StorageServer, ...], origins: Origins, library: Library
) -> Registries:
    root = Path(settings.storage_root)
    following = Following(
        servers=servers,
        hold=library.hold,
        choices=settings.registries,
        period_seconds=settings.registry_update_period_seconds,
        ledger=_open_ledger(root / "ledger.jsonl"),
        rollback_after_seconds=settings.rollback_after_seconds,
        check_origin=origins.check,
    )
    return Registries(root / "static", Disk(), following, welcome=library.welcome, flavorless=settings.flavorless)


def _open_ledger(path: Path) -> Ledger:
    try:
        return Ledger(path, Disk())
    except OSError as error:
        raise StartError(f"{path} cannot be read: {error.strerror}") from error


def _open_verified(path: Path) -> Verified:
    try:
        return Verified(path)
    except (sqlite3.Error, OSError) as error:
        raise StartError(f"{path} cannot be used: {error}") from error


def _make_folders(root: Path) -> None:
    try:
        for name in _FOLDERS:
            (root / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"the storage root {root} cannot be used: {error.strerror} ({error.filename})") from error


def _empty(folder: Path) -> None:
    try:
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    except OSError as error:
        raise StartError(f"{folder} cannot be emptied: {error.strerror} ({error.filename})") from error


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

"""How settings become the parts of a server; `main` connects them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pkgserver_trio.downloads.downloads import Downloads
from pkgserver_trio.library import Library
from pkgserver_trio.opening import open_ledger, open_mtimes
from pkgserver_trio.registries.publication import Following
from pkgserver_trio.registries.registries import Registries
from pkgserver_trio.statistics import Statistics
from pkgserver_trio.storage.disk import Disk
from pkgserver_trio.storage.hashing import Hashing
from pkgserver_trio.storage.store import Store
from pkgserver_trio.tarballs.stream import TarLimits
from pkgserver_trio.verifying import Verifying
from pkgserver_trio.web.app import PackageServer

if TYPE_CHECKING:
    import trio

    from pkgserver_trio.mirror.mirror import Mirror
    from pkgserver_trio.registries.origin_check import Origins
    from pkgserver_trio.settings import Settings
    from pkgserver_trio.storage.verified import Verified
    from pkgserver_trio.upstream.storage_servers import StorageServer
    from pkgserver_trio.web.admin import Admin


def build_library(
    settings: Settings, servers: tuple[StorageServer, ...], verified: Verified, nursery: trio.Nursery
) -> Library:
    """Return the library; `nursery` gets its flights. Raises StartError."""
    store = Store(
        Path(settings.storage_root),
        Disk(),
        verified,
        keep_free_bytes=settings.keep_free_bytes,
        max_cache_bytes=settings.max_cache_bytes,
        statistics=Statistics(),
    )
    hashing = Hashing(TarLimits(settings.max_unpacked_bytes, settings.max_members))
    downloads = Downloads(
        nursery,
        servers,
        store,
        hashing,
        open_mtimes(Path(settings.storage_root) / ".last-mtime"),
        max_downloads=settings.max_downloads,
        negative_seconds=settings.negative_seconds,
    )
    return Library(nursery, store, downloads, hashing)


def build_registries(
    settings: Settings, servers: tuple[StorageServer, ...], origins: Origins, library: Library
) -> Registries:
    """Return the registries that `settings` choose. Raises StartError."""
    root = Path(settings.storage_root)
    following = Following(
        servers=servers,
        hold=library.hold,
        choices=settings.registries,
        period_seconds=settings.registry_update_period_seconds,
        ledger=open_ledger(root / "ledger.jsonl"),
        rollback_after_seconds=settings.rollback_after_seconds,
        check_origin=origins.check,
    )
    return Registries(root / "static", Disk(), following, welcome=library.welcome, flavorless=settings.flavorless)


def build_verifying(settings: Settings, library: Library) -> Verifying:
    """Return what verifies the whole cache, on one thread, so that requests have the others."""
    limits = TarLimits(settings.max_unpacked_bytes, settings.max_members)
    return Verifying(library.store, Hashing(limits, threads=1))


def build_app(
    settings: Settings, library: Library, registries: Registries, admin: Admin, mirror: Mirror | None
) -> PackageServer:
    """Return the application."""
    return PackageServer(
        library,
        registries,
        admin,
        public_url=settings.public_url,
        trusted_proxies=settings.trusted_proxies,
        siblings=settings.siblings,
        mirror=mirror,
    )

"""How settings become the mirror: its own store, downloads and library, of the same make as those of packages."""

from __future__ import annotations

import os
import time
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pkgserver_trio.downloads.downloads import Downloads
from pkgserver_trio.library import Library
from pkgserver_trio.mirror.digesting import Unproven
from pkgserver_trio.mirror.mirror import Mirror, is_at_hand
from pkgserver_trio.mirror.object_origin import ObjectOrigin
from pkgserver_trio.mirror.signing import CredentialsChain
from pkgserver_trio.mirror.versions import MirrorPolicy, Versions
from pkgserver_trio.opening import open_mirror_folder, open_mtimes, open_records, open_verified
from pkgserver_trio.resource import Kind
from pkgserver_trio.settings.buckets import is_pointer
from pkgserver_trio.storage.disk import Disk
from pkgserver_trio.storage.hashing import Hashing
from pkgserver_trio.storage.store import Store
from pkgserver_trio.tarballs.stream import TarLimits
from pkgserver_trio.upstream.asking import open_clients, patience_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import httpx
    import trio

    from pkgserver_trio.mirror.object_path import ObjectName
    from pkgserver_trio.mirror.object_records import ObjectRecords
    from pkgserver_trio.settings import Settings
    from pkgserver_trio.storage.verified import Verified

#: What the mirror leaves free beside what the cache does: where the disk is short, it gives way first.
_FREE_FOR_PACKAGES: Final = 1024**3


@dataclass(frozen=True, slots=True)
class MirrorParts:
    """What a mirror is built upon, opened before its server and closed after it."""

    folder: Path
    origins: tuple[ObjectOrigin, ...]
    verified: Verified
    records: ObjectRecords


@asynccontextmanager
async def open_mirror(
    settings: Settings, *, transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator[MirrorParts | None]:
    """Open the mirror that is configured, if one is; `transport` as in `open_storage_servers`. Raises StartError."""
    if not settings.mirror_buckets:
        yield None
        return
    credentials = CredentialsChain(settings.mirror_credentials_file, os.environ)
    folder = open_mirror_folder(Path(settings.storage_root))
    pointers = partial(_is_pointer, settings.mirror_pointers)
    async with AsyncExitStack() as stack:
        verified = stack.enter_context(closing(open_verified(folder / "verified.sqlite")))
        records = stack.enter_context(closing(open_records(folder / "objects.sqlite", pointers)))
        clients = await stack.enter_async_context(open_clients(settings, transport))
        patience = patience_of(settings)
        signers = {bucket: credentials.signer(bucket.name) for bucket in settings.mirror_buckets}
        origins = tuple(ObjectOrigin(bucket, clients, patience, signer) for bucket, signer in signers.items())
        yield MirrorParts(folder, origins, verified, records)


def _is_pointer(patterns: tuple[str, ...], name: ObjectName) -> bool:
    return is_pointer(name.key, patterns)


def build_mirror(
    settings: Settings, parts: MirrorParts | None, nursery: trio.Nursery, *, now: Callable[[], float] = time.time
) -> Mirror | None:
    """Return the mirror of `parts`; `nursery` gets its flights, `now` tells Unix seconds."""
    if parts is None:
        return None
    store = _open_store(settings, parts)
    hashing = Hashing(TarLimits(settings.max_unpacked_bytes, settings.max_members))
    downloads = Downloads(
        nursery,
        (),
        store,
        hashing,
        open_mtimes(store.root / ".last-mtime"),
        max_downloads=settings.max_downloads,
        negative_seconds=settings.negative_seconds,
    )
    library = Library(nursery, store, downloads, Unproven())
    versions = Versions(nursery, parts.origins, parts.records, _policy(settings), partial(is_at_hand, library), now=now)
    return Mirror(nursery, library, versions, hashing.threads)


def _open_store(settings: Settings, parts: MirrorParts) -> Store:
    return Store(
        parts.folder,
        Disk(),
        parts.verified,
        keep_free_bytes=settings.keep_free_bytes + _FREE_FOR_PACKAGES,
        max_cache_bytes=settings.mirror_max_cache_bytes,
        kinds=(Kind.MIRROR,),
    )


def _policy(settings: Settings) -> MirrorPolicy:
    return MirrorPolicy(
        settings.mirror_pointers,
        settings.mirror_stale_while_revalidate_seconds,
        settings.mirror_stale_if_error_seconds,
        settings.negative_seconds,
    )

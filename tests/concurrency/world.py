"""A library with its store, downloads and scripted storage servers, all in one task tree of the test."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import trio
from tests.fakes import FakeNetwork, FakeTransport
from tests.unit.tarballs import END, file, gzipped, hashes_of

from pkgserver_trio.disk import Disk
from pkgserver_trio.downloads import Downloads, Hashing
from pkgserver_trio.errors import BrokenOffError
from pkgserver_trio.library import Library
from pkgserver_trio.resource import Kind, Resource
from pkgserver_trio.store import Store
from pkgserver_trio.tar_stream import TarLimits
from pkgserver_trio.upstream import Patience, StorageServer
from pkgserver_trio.verified import Verified

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from pkgserver_trio.flight import FlightReader
    from pkgserver_trio.open_file import StoredFile

LIMITS = TarLimits(max_unpacked_bytes=1 << 30, max_members=10_000)
PATIENCE = Patience(connect_seconds=5, head_seconds=5, body_seconds=5)


def tarball(content: bytes = b"content", name: bytes = b"file") -> bytes:
    """A right tarball with one file."""
    return gzipped(file(name, content) + END)


def named(body: bytes) -> Resource:
    """The artifact whose tarball `body` is."""
    return Resource(Kind.ARTIFACT, hashes_of(body).skip_empty)


@dataclass
class World:
    """What a test looks at."""

    root: Path
    disk: Disk
    store: Store
    downloads: Downloads
    library: Library
    nursery: trio.Nursery

    def is_clean(self) -> bool:
        """Nothing is left of any download: no unfinished file, no reserved space, no flight."""
        return not list((self.root / "temp").iterdir()) and not self.store.reservations and not self.downloads.flights

    def cached(self) -> list[str]:
        """The names of all files in `cache/`."""
        cache = self.root / "cache"
        return sorted(str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file())

    async def fetch(self, resource: Resource) -> bytes:
        """Read a resource to its end, as an answer does."""
        source = await self.library.obtain(resource)
        try:
            return await read_all(source)
        finally:
            source.close()

    async def settle(self) -> None:
        """Wait until no flight is left."""
        while self.downloads.flights:  # noqa: ASYNC110 # the commit is nobody's event, and the clock is a mock
            await trio.sleep(0.1)


async def read_all(source: StoredFile | FlightReader, start: int = 0, stop: int | None = None) -> bytes:
    """Read `start` to `stop` (None: the end) piece by piece. Raises BrokenOffError."""
    got = bytearray()
    end = source.size_bytes if stop is None else stop
    while end is None or start + len(got) < end:
        piece = await source.read(start + len(got), end)  # type: ignore[arg-type] # None is for flights alone
        if not piece:
            break
        got += piece
    return bytes(got)


async def read_until_broken(source: StoredFile | FlightReader, start: int = 0, stop: int | None = None) -> bytes:
    """Read until the answer breaks off; return what came before. Fails when it does not break off."""
    got = bytearray()
    end = source.size_bytes if stop is None else stop
    try:
        while piece := await source.read(start + len(got), end):  # type: ignore[arg-type] # None is for flights alone
            got += piece
    except BrokenOffError:
        return bytes(got)
    raise AssertionError(f"the answer was complete: {len(got)} bytes")


def servers_of(transports: Mapping[str, FakeTransport]) -> list[StorageServer]:
    """Storage servers in memory, by host name."""
    client = httpx.AsyncClient(
        transport=FakeNetwork(transports), timeout=httpx.Timeout(5, pool=None), follow_redirects=True
    )
    return [StorageServer(f"http://{host}", probes=client, bodies=client, patience=PATIENCE) for host in transports]


@asynccontextmanager
async def world(
    root: Path,
    *transports: FakeTransport,
    disk: Disk | None = None,
    keep_free_bytes: int = 0,
    max_cache_bytes: int | None = None,
) -> AsyncIterator[World]:
    """Open a world in the folder `root`, whose storage servers are `http://a`, `http://b`, and so on."""
    for name in ("cache", "temp", "static", "quarantine"):
        (root / name).mkdir(parents=True, exist_ok=True)
    disk = disk or Disk()
    verified = Verified(root / "verified.sqlite")
    servers = servers_of(dict(zip("abcdefg", transports, strict=False)))
    try:
        async with trio.open_nursery() as nursery:
            store = Store(root, disk, verified, keep_free_bytes=keep_free_bytes, max_cache_bytes=max_cache_bytes)
            hashing = Hashing(LIMITS)
            downloads = Downloads(nursery, servers, store, hashing, max_downloads=8)
            library = Library(nursery, store, downloads, hashing, negative_seconds=10)
            yield World(root, disk, store, downloads, library, nursery)
            nursery.cancel_scope.cancel()
    finally:
        verified.close()

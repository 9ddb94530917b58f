"""A loft: a library with its store, its downloads and scripted storage servers, and no web before it."""

from __future__ import annotations

import hashlib
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio
from tests.fakes import FakeNetwork, FakeTransport
from tests.unit.tarballs import AMPLE, END, file, gzipped, hashes_of

from pkgserver_trio.downloads.downloads import Downloads
from pkgserver_trio.errors import BrokenOffError
from pkgserver_trio.library import Library
from pkgserver_trio.registries.ledger import Ledger
from pkgserver_trio.registries.origin_check import Origins
from pkgserver_trio.registries.publication import Following
from pkgserver_trio.registries.registries import Registries
from pkgserver_trio.resource import Kind, Resource
from pkgserver_trio.settings import AllRegistries, Settings
from pkgserver_trio.storage.disk import Disk
from pkgserver_trio.storage.hashing import Hashing
from pkgserver_trio.storage.mtimes import Mtimes
from pkgserver_trio.storage.store import Store
from pkgserver_trio.storage.verified import Verified
from pkgserver_trio.upstream.storage_servers import StorageServer, open_storage_servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
    from pathlib import Path

    from pkgserver_trio.downloads.flight import FlightReader
    from pkgserver_trio.storage.open_file import StoredFile
    from pkgserver_trio.upstream.admission import Admission


@dataclass(frozen=True, slots=True)
class Tarball:
    """A resource and its right bytes."""

    resource: Resource
    body: bytes

    @property
    def path(self) -> str:
        return self.resource.path

    @property
    def size(self) -> int:
        return len(self.body)


def tarball(seed: str, size: int = 1000) -> Tarball:
    """Return an artifact of one file of ``size`` bytes that no compression shrinks; other seeds, other artifacts."""
    content = hashlib.shake_256(seed.encode()).digest(size)
    body = gzipped(file(b"content", content) + END)
    return Tarball(Resource(Kind.ARTIFACT, hashes_of(body).skip_empty), body)


def registry_of(uuid: str, seed: str) -> Tarball:
    """Return a registry's state, as a tarball whose content does not matter."""
    made = tarball(seed)
    return Tarball(Resource(Kind.REGISTRY, made.resource.tree_hash, uuid), made.body)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one reader got, and whether its answer broke off."""

    body: bytes
    broken: bool


async def read_on(source: StoredFile | FlightReader, start: int = 0, stop: int | None = None) -> Reading:
    """Read the bytes ``start`` to ``stop`` (None: the end) as an answer would, and let go of the source."""
    end = source.size_bytes if stop is None else stop
    body = bytearray()
    try:
        while piece := await source.read(start + len(body), end):  # type: ignore[arg-type] # None is for flights alone
            body += piece
    except BrokenOffError:
        return Reading(bytes(body), broken=True)
    finally:
        source.close()
    return Reading(bytes(body), broken=False)


@dataclass(frozen=True, slots=True)
class Loft:
    """The parts, and what tests ask of them."""

    store: Store
    downloads: Downloads
    library: Library

    async def get(self, resource: Resource, start: int = 0, stop: int | None = None) -> Reading:
        """Answer as the web does: anew where an answer breaks off before its first byte."""
        while True:
            reading = await read_on(await self.library.obtain(resource), start, stop)
            if reading.body or not reading.broken:
                return reading

    @property
    def cached(self) -> set[str]:
        """The names of all files in `cache/`."""
        return files_in(self.store.root / "cache")

    def assert_no_leftovers(self) -> None:
        assert files_in(self.store.root / "temp") == set()
        assert self.store.reservations == set()
        assert len(self.downloads.flights) == 0


def files_in(folder: Path) -> set[str]:
    """Return the paths of all files below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def new_store(root: Path, verified: Verified, plan: LoftPlan) -> Store:
    for name in ("cache", "temp", "quarantine", "static"):
        (root / name).mkdir(exist_ok=True)
    return Store(
        root,
        plan.disk or Disk(),
        verified,
        keep_free_bytes=plan.keep_free,
        max_cache_bytes=plan.max_cache,
        wall_ns=plan.wall_ns,
    )


@asynccontextmanager
async def open_servers(hosts: Mapping[str, FakeTransport]) -> AsyncIterator[tuple[StorageServer, ...]]:
    """Open a storage server for each host; connecting, a head and silence may take 5 seconds each."""
    urls = ",".join(f"http://{host}" for host in hosts)
    settings = Settings.from_mapping({"JULIA_PKG_SERVER_STORAGE_SERVERS": urls})
    async with open_storage_servers(settings, transport=FakeNetwork(hosts)) as servers:
        yield servers


@dataclass(frozen=True, slots=True, kw_only=True)
class LoftPlan:
    """How a loft differs from the plain one; sizes in bytes."""

    disk: Disk | None = None
    hashing: Hashing | None = None
    keep_free: int = 0
    max_cache: int | None = None
    max_downloads: int = 64
    admission: Admission | None = None
    wall_ns: Callable[[], int] = time.time_ns
    nursery: trio.Nursery | None = None  # the flights' owner, for a test that cancels it


@asynccontextmanager
async def open_loft(
    root: Path, hosts: Mapping[str, FakeTransport], plan: LoftPlan | None = None
) -> AsyncIterator[Loft]:
    """Open a loft on the folder ``root``; on leaving, what still flies lands first."""
    plan = plan or LoftPlan()
    verified = Verified(root / "verified.sqlite")
    store = new_store(root, verified, plan)
    hashing = plan.hashing or Hashing(AMPLE)
    try:
        async with open_servers(hosts) as servers, trio.open_nursery() as nursery:
            owner = plan.nursery or nursery
            downloads = Downloads(
                owner,
                servers,
                store,
                hashing,
                Mtimes(root / ".last-mtime", Disk(), lambda: plan.wall_ns() / 1e9),
                max_downloads=plan.max_downloads,
                negative_seconds=10,
                admission=plan.admission,
            )
            yield Loft(store, downloads, Library(owner, store, downloads, hashing))
    finally:
        verified.close()


def ranges_of(size: int) -> Iterator[tuple[int, int | None]]:
    """Yield answers of every kind: the whole, a range inside, one at each end, and single bytes."""
    yield from [(0, None), (size // 4, size // 2), (0, size // 2), (size // 2, size), (0, 1), (size - 1, size)]


async def had_at_once(_: Resource) -> None:
    """Hold a resource, as `Library.hold` does, that is there already."""
    await trio.lowlevel.checkpoint()


def registries_of(
    root: Path,
    servers: tuple[StorageServer, ...],
    *,
    period_seconds: float,
    flavorless: bool = False,
    hold: Callable[[Resource], Awaitable[None]] = had_at_once,
) -> Registries:
    """Return the registries of all storage servers, without a library and without origins."""
    rules = Following(
        servers=servers,
        hold=hold,
        choices=AllRegistries.ALL,
        period_seconds=period_seconds,
        ledger=Ledger(root / "ledger.jsonl", Disk()),
        rollback_after_seconds=3600,
        check_origin=Origins({}).check,
    )
    return Registries(root, Disk(), rules, welcome=lambda _: None, flavorless=flavorless)

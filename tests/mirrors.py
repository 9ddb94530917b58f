"""A mirror with its store, on a scripted origin, and no web before it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from tests.fakes import FakeNetwork, FakeTransport
from tests.lofts import files_in

from pkgserver_trio.downloads.flight import FlightReader
from pkgserver_trio.errors import BrokenOffError
from pkgserver_trio.mirror.object_path import ObjectName
from pkgserver_trio.mirror_building import build_mirror, open_mirror
from pkgserver_trio.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from pkgserver_trio.mirror.mirror import Mirror
    from pkgserver_trio.mirror.versions import Word
    from pkgserver_trio.mirror_building import MirrorParts

HOST = "bucket.example"
#: Some moment to begin at.
EPOCH = 1_800_000_000
#: Two versions of an object.
OLD, NEW = b"old" * 1000, b"newer" * 1000


def named(key: str) -> ObjectName:
    return ObjectName("bucket", key)


@dataclass(frozen=True, slots=True)
class Got:
    """What a client got, and how that was chosen."""

    body: bytes
    word: Word
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Gallery:
    """A mirror and its origin."""

    root: Path
    mirror: Mirror
    origin: FakeTransport

    async def get(self, key: str, **asked: str) -> Got:
        """Read an object to its end, as an answer would; ``asked`` is a part (``Range``)."""
        served = await self.mirror.obtain(named(key), asked, peer="client")
        source, body = served.source, b""
        try:
            while piece := await source.read(len(body), source.size_bytes):  # type: ignore[arg-type]
                body += piece
        except BrokenOffError:
            return Got(body, served.word, broken=True)
        finally:
            source.close()
        if isinstance(source, FlightReader):
            await source.flight.wait_settled()
        return Got(body, served.word)

    @property
    def kept(self) -> int:
        """How many files there are in the mirror's cache."""
        return len(files_in(self.root / "mirror" / "cache"))

    def assert_no_leftovers(self) -> None:
        library = self.mirror.library
        assert files_in(self.root / "mirror" / "temp") == set()
        assert library.store.reservations == set()
        assert len(library.downloads.flights) == 0
        assert self.origin.open_answers == 0


@asynccontextmanager
async def open_gallery(root: Path, origin: FakeTransport, **changes: str) -> AsyncIterator[Gallery]:
    """Open a mirror of ``origin`` on the storage root ``root``; time is Trio's, counted from ``EPOCH``."""
    settings = _settings(root, changes)
    async with _open_parts(settings, origin) as parts, trio.open_nursery() as flights:
        yield await _build(settings, parts, flights, origin)


@asynccontextmanager
async def open_gallery_on(
    flights: trio.Nursery, root: Path, origin: FakeTransport, **changes: str
) -> AsyncIterator[Gallery]:
    """Open a mirror as ``open_gallery`` does, whose flights belong to the caller."""
    settings = _settings(root, changes)
    async with _open_parts(settings, origin) as parts:
        yield await _build(settings, parts, flights, origin)


def _settings(root: Path, changes: Mapping[str, str]) -> Settings:
    mapping = {
        "JULIA_PKG_SERVER_STORAGE_ROOT": str(root),
        "PKGSERVER_KEEP_FREE": "0",
        "PKGSERVER_MIRROR_BUCKETS": f"bucket=http://{HOST};ttl=100",
        **changes,
    }
    return Settings.from_mapping(mapping)


def _open_parts(settings: Settings, origin: FakeTransport) -> AbstractAsyncContextManager[MirrorParts | None]:
    return open_mirror(settings, transport=FakeNetwork({HOST: origin}))


async def _build(
    settings: Settings, parts: MirrorParts | None, flights: trio.Nursery, origin: FakeTransport
) -> Gallery:
    began = trio.current_time()
    mirror = build_mirror(settings, parts, flights, now=lambda: EPOCH + trio.current_time() - began)
    assert mirror is not None
    await mirror.library.store.scan()
    return Gallery(Path(settings.storage_root), mirror, origin)

"""The library: the only door to resources for `web/`. A resource is on the shelf, on its way, or not to be had."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import structlog
import trio

from pkgserver_trio.coalesce import Coalescer, Errand
from pkgserver_trio.downloads.flight import FlightReader
from pkgserver_trio.errors import StorageFailedError
from pkgserver_trio.hits.lines import Hit
from pkgserver_trio.storage.open_file import StoredFile
from pkgserver_trio.storage.reservation import disk_errors_are_unavailability
from pkgserver_trio.trouble import Trouble, trouble_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pkgserver_trio.downloads.downloads import Downloads, Order
    from pkgserver_trio.resource import Resource
    from pkgserver_trio.storage.open_file import OpenFile
    from pkgserver_trio.storage.store import Store


@dataclass(frozen=True, slots=True)
class Sighting:
    """What can be said of a resource without reading it. Sizes in bytes, times in seconds since the epoch."""

    cached: bool
    size_bytes: int | None
    mtime_seconds: int | None


class Judge(Protocol):
    """Looks at files of the cache that this store did not write, as `Hashing` does."""

    async def fault_of(self, file: OpenFile, size: int, resource: Resource, /) -> str | None:
        """Return why a whole file of `size` bytes is not the resource; None when it is. Raises OSError."""


class Library:
    """Obtains resources from the store, from flights that are under way, or by beginning one."""

    def __init__(
        self,
        nursery: trio.Nursery,
        store: Store,
        downloads: Downloads,
        judge: Judge,
    ) -> None:
        self.store = store
        self.downloads = downloads
        self.statistics = store.statistics
        self._judge = judge
        self._count_nginx_hit = store.statistics.count_nginx_hit
        self._inspections: Coalescer[Resource, Errand[bool]] = Coalescer(nursery)
        self._log = structlog.get_logger()

    async def obtain(
        self, resource: Resource, *, peer: str = "", order: Order | None = None
    ) -> StoredFile | FlightReader:
        """Return an open file (a hit) or the reader of a running download (a miss); the caller closes it.

        `peer` is for whom it is (none: for ourselves), `order` as in `Downloads.join`. Raises ResourceUnavailableError.
        """
        while True:
            stored = self.store.open_verified(resource)
            if stored is not None:
                return stored
            flight = self.downloads.flights.get(resource)
            if flight is None:
                if await self._look_into(resource) or self._is_at_hand(resource):
                    continue
                flight = self.downloads.join(resource, peer, order)  # no checkpoint since it was not at hand
            reader = await flight.open_reader()
            if reader is not None:
                return reader

    async def sight(self, resource: Resource, *, peer: str = "") -> Sighting:
        """Return what HEAD tells: from the store or a running download, else from the storage servers; no download.

        `peer` as in `obtain`. Raises ResourceUnavailableError.
        """
        if resource in self.downloads.flights or await self._is_held(resource):
            source = await self.obtain(resource, peer=peer)
            source.close()
            return Sighting(isinstance(source, StoredFile), source.size_bytes, source.mtime_seconds)
        head = await self.downloads.probe(resource, peer)
        return Sighting(cached=False, size_bytes=head.size_bytes, mtime_seconds=None)

    async def hold(self, resource: Resource, *, peer: str = "") -> None:
        """Return when the resource is in the store, or was verified and dropped for want of room.

        `peer` as in `obtain`. Raises ResourceUnavailableError.
        """
        source = await self.obtain(resource, peer=peer)
        try:
            if isinstance(source, FlightReader):
                await source.flight.wait_settled()
        finally:
            source.close()

    async def sha256(self, resource: Resource, *, peer: str = "") -> str:
        """Return the SHA-256 (64 hex) of the resource's file, computed once. Raises ResourceUnavailableError."""
        await self.hold(resource, peer=peer)
        source = await self.obtain(resource, peer=peer)
        try:
            if isinstance(source, StoredFile):
                return await self.store.sha256(resource, source)
            await source.flight.wait_landed()
            size = source.flight.progress.state.written_bytes
            with disk_errors_are_unavailability(resource):
                return await trio.to_thread.run_sync(source.file.sha256, size)
        finally:
            source.close()

    def welcome(self, registries: Collection[Resource]) -> None:
        """Keep the published registries from eviction, and ask again for what was missing: there may be new things."""
        self.store.pin(registries)
        self.downloads.forget_refusals()

    def note_hits(self, hits: Iterable[Hit]) -> None:
        """Count what nginx served, and note it as used, at the time that the hit tells but never in the future."""
        now_ns = time.time_ns()
        for hit in hits:
            self._count_nginx_hit(hit.resource, hit.size_bytes)
            self.store.index.touch(hit.resource.pack(), min(hit.time_ns, now_ns))

    def note_whole_hit(self, resource: Resource) -> bool:
        """Note that nginx served a whole resource just now; False, and nothing is noted, if the cache lacks it."""
        size = self.store.index.size_of(resource.pack())
        if size is None:
            return False
        self.note_hits([Hit(resource, size, time.time_ns())])
        return True

    async def inspect_suspects(self) -> None:
        """Hash every suspect that nobody has asked for yet, one after the other."""
        for resource in self.store.suspects():
            try:
                await self._look_into(resource)
            except StorageFailedError as error:
                self._log.error("cannot check a file of the cache", resource=resource.name, error=repr(error.__cause__))

    async def _is_held(self, resource: Resource) -> bool:
        at_hand = self._is_at_hand(resource)
        return at_hand or (await self._look_into(resource) and self._is_at_hand(resource))

    def _is_at_hand(self, resource: Resource) -> bool:
        stored = self.store.open_verified(resource)
        if stored is not None:
            stored.close()
        return stored is not None

    async def _look_into(self, resource: Resource) -> bool:
        """Return False when the cache has no file that can be used, else True: the store then knows more of it.

        Raises ResourceUnavailableError.
        """
        errand = self._inspections.join(resource, lambda: Errand(partial(self._inspect, resource), resource.name))
        with disk_errors_are_unavailability(resource):
            return await errand.wait()

    async def _inspect(self, resource: Resource) -> bool:
        found = await self.store.open_any(resource)
        if found is None:
            self.store.index.drop(resource.pack())
            return False
        stored, verified = found
        try:
            fault = None if verified else await self._judge.fault_of(stored.file, stored.size_bytes, resource)
            if fault is None:
                await self.store.admit(resource, stored.stat)
            else:
                self._log.error("wrong file in the cache, to quarantine", resource=resource.name, fault=fault)
                await self.store.quarantine(resource, stored.stat)
        except OSError as error:
            if trouble_of(error) is Trouble.SCARCE:
                raise
            self._log.error("unusable file in the cache", resource=resource.name, error=error.strerror)
            return False  # a download may put a better one in its place
        finally:
            stored.close()
        return True

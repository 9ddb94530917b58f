"""The library: the only door to resources for `web/`. A resource is on the shelf, on its way, or not to be had."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog
import trio

from pkgserver_trio.coalesce import Coalescer
from pkgserver_trio.errors import NotFoundError, ShuttingDownError, StorageFailedError
from pkgserver_trio.flight import FlightReader
from pkgserver_trio.open_file import StoredFile
from pkgserver_trio.reservation import disk_errors_are_unavailability
from pkgserver_trio.tree_hash import TarballError
from pkgserver_trio.trouble import Trouble, trouble_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from pkgserver_trio.downloads import Downloads, Hashing
    from pkgserver_trio.resource import Resource
    from pkgserver_trio.store import Store

#: How many resources are remembered as missing; the longest remembered make room for more.
_MAX_MISSING = 10_000


@dataclass(frozen=True, slots=True)
class Sighting:
    """What can be said of a resource without reading it. Sizes in bytes, times in seconds since the epoch."""

    cached: bool
    size_bytes: int | None
    mtime_seconds: int | None


class Inspection:
    """The hashing of a file that the store does not know as right, shared by all who want the file."""

    def __init__(self, inspect: Callable[[], Awaitable[bool]]) -> None:
        self._inspect = inspect
        self._settled = trio.Event()
        self._found = False
        self._error: BaseException | None = None

    async def run(self) -> None:
        """Look for the file, and do with it what is right."""
        self._found = await self._inspect()

    def settle(self, error: BaseException | None) -> None:
        """Wake those who wait."""
        self._error = error
        self._settled.set()

    async def wait(self) -> bool:
        """Return False when there is no file that can be used, else True: the store then knows more of it than before.

        Raises StorageFailedError when the file could not be read.
        """
        await self._settled.wait()
        if isinstance(self._error, trio.Cancelled):
            raise ShuttingDownError("a file of the cache was being checked while the server stopped")
        if self._error is not None:
            raise StorageFailedError("a file of the cache could not be read") from self._error
        return self._found


class Library:
    """Obtains resources from the store, from flights that are under way, or by beginning one."""

    def __init__(
        self,
        nursery: trio.Nursery,
        store: Store,
        downloads: Downloads,
        hashing: Hashing,
        *,
        negative_seconds: float,
    ) -> None:
        self.store = store
        self.downloads = downloads
        self._hashing = hashing
        self._inspections: Coalescer[Resource, Inspection] = Coalescer(nursery)
        self._negative_seconds = negative_seconds
        self._missing: dict[Resource, float] = {}  # until when (Trio's time), oldest first
        self._log = structlog.get_logger()

    async def obtain(self, resource: Resource) -> StoredFile | FlightReader:
        """Return an open file (a hit) or the reader of a running download (a miss); the caller closes it.

        Raises ResourceUnavailableError.
        """
        while True:
            stored = self.store.open_verified(resource)
            if stored is not None:
                return stored
            flight = self.downloads.flights.get(resource)
            if flight is None:
                if await self._look_into(resource) or self._is_at_hand(resource):
                    continue
                self._refuse_missing(resource)
                flight = self.downloads.join(resource)  # no checkpoint since it was not at hand
            try:
                reader = await flight.open_reader()
            except NotFoundError:
                self._remember_missing(resource)
                raise
            if reader is not None:
                return reader

    async def sight(self, resource: Resource) -> Sighting:
        """Return what HEAD tells: from the store or a running download, else from the storage servers; no download.

        Raises ResourceUnavailableError.
        """
        if resource in self.downloads.flights or await self._is_held(resource):
            source = await self.obtain(resource)
            source.close()
            return Sighting(isinstance(source, StoredFile), source.size_bytes, source.mtime_seconds)
        self._refuse_missing(resource)
        try:
            head = await self.downloads.probe(resource)
        except NotFoundError:
            self._remember_missing(resource)
            raise
        return Sighting(cached=False, size_bytes=head.size_bytes, mtime_seconds=None)

    async def hold(self, resource: Resource) -> None:
        """Return when the resource is in the store, or was verified and dropped for want of room.

        Raises ResourceUnavailableError.
        """
        source = await self.obtain(resource)
        try:
            if isinstance(source, FlightReader):
                await source.flight.wait_settled()
        finally:
            source.close()

    async def sha256(self, resource: Resource) -> str:
        """Return the SHA-256 (64 hex) of the resource's file, computed once. Raises ResourceUnavailableError."""
        await self.hold(resource)
        source = await self.obtain(resource)
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
        self._missing.clear()

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
        inspection = self._inspections.join(resource, lambda: Inspection(partial(self._inspect, resource)))
        return await inspection.wait()

    async def _inspect(self, resource: Resource) -> bool:
        found = await self.store.open_any(resource)
        if found is None:
            self.store.index.drop(resource.pack())
            return False
        stored, verified = found
        try:
            if verified or await self._is_right(resource, stored):
                await self.store.admit(resource, stored.stat)
            else:
                self._log.error("wrong file in the cache, to quarantine", resource=resource.name)
                await self.store.quarantine(resource, stored.stat)
        except OSError as error:
            if trouble_of(error) is Trouble.SCARCE:
                raise
            self._log.error("unusable file in the cache", resource=resource.name, error=error.strerror)
            return False  # a download may put a better one in its place
        finally:
            stored.close()
        return True

    async def _is_right(self, resource: Resource, stored: StoredFile) -> bool:
        try:
            hashes = await self._hashing.whole(stored.file, stored.size_bytes)
        except TarballError:
            return False
        return hashes.include(resource.tree_hash)

    def _refuse_missing(self, resource: Resource) -> None:
        until = self._missing.get(resource)
        if until is not None and trio.current_time() < until:
            raise NotFoundError(f"{resource.name} was not found on any storage server a moment ago")

    def _remember_missing(self, resource: Resource) -> None:
        self._missing.pop(resource, None)
        self._missing[resource] = trio.current_time() + self._negative_seconds
        if len(self._missing) > _MAX_MISSING:
            del self._missing[next(iter(self._missing))]

"""The cache on disk: a write is a transaction, the index is a memory of the disk, the disk is the truth.

1. A file enters `cache/` only by `Reservation.commit`. After kill -9 at any instant `cache/` holds whole, verified
   files and `temp/` is rubbish.
2. Space is reserved before it is used, by evicting the files used longest ago. What does not fit even so is written
   all the same, and dropped instead of committed.
3. The index is changed on Trio's thread only. A name in `cache/` and its entry change together, under one lock.
4. `open_verified` serves only what was verified. Anything else in `cache/` is a *suspect*, hashed before it is served.
"""

from __future__ import annotations

import contextlib
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog
import trio

from pkgserver_trio.cache_files import CacheFiles
from pkgserver_trio.index import Index
from pkgserver_trio.open_file import OpenFile
from pkgserver_trio.reservation import Reservation, disk_errors_are_unavailability
from pkgserver_trio.resource import Resource

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from pkgserver_trio.disk import Disk, FileStat
    from pkgserver_trio.open_file import StoredFile
    from pkgserver_trio.verified import Verified


class Store:
    """The folder `root` with its `cache/`, `temp/` and `quarantine/`, and the memory of what is verified."""

    def __init__(
        self, root: Path, disk: Disk, verified: Verified, *, keep_free_bytes: int, max_cache_bytes: int | None
    ) -> None:
        self.root = root
        self.disk = disk
        self.files = CacheFiles(root, disk)
        self.verified = verified
        self.index = Index()
        self.reservations: set[Reservation] = set()
        self._keep_free_bytes = keep_free_bytes
        self._max_cache_bytes = max_cache_bytes
        self._names = trio.Lock()  # rule 3
        self._serial = 0

    def path(self, resource: Resource) -> Path:
        """Return where the resource's file is, or would be."""
        return self.files.path(resource)

    def open_verified(self, resource: Resource) -> StoredFile | None:
        """Return the open file of a verified resource and count its use; no checkpoint, no wait but for open(2).

        None when it is absent, a suspect, or of another size: `open_any` tells which. Raises StorageFailedError.
        """
        key = resource.pack()
        size = self.index.trusted_size(key)
        if size is None:
            return None
        with disk_errors_are_unavailability(resource):
            try:
                stored = self.files.open(resource)
            except FileNotFoundError:
                self.index.drop(key)
                return None
        if stored.size_bytes != size:
            stored.close()
            self.index.drop(key)
            return None
        self.index.touch(key, time.time_ns())
        return stored

    async def open_any(self, resource: Resource) -> tuple[StoredFile, bool] | None:
        """Return the open file, whatever it holds, and whether it was verified; None when there is none."""

        def look() -> tuple[StoredFile, bool] | None:
            try:
                stored = self.files.open(resource)
            except FileNotFoundError:
                return None
            return stored, self.verified.knows(resource.name, stored.stat)

        return await trio.to_thread.run_sync(look)

    @contextmanager
    def reserve(self, resource: Resource) -> Iterator[Reservation]:
        """Open a transaction that may `commit`; however else it ends, its file and its space are given back.

        Raises ResourceUnavailableError when the disk refuses.
        """
        self._serial += 1
        path = self.root / "temp" / f"{resource.tree_hash}.{self._serial}"
        with disk_errors_are_unavailability(resource):
            file = OpenFile(self.disk, self.disk.create(path))
        reservation = Reservation(self, resource, path, file)
        self.reservations.add(reservation)
        try:
            yield reservation
        finally:
            self.reservations.discard(reservation)
            reservation.release()

    async def claim(self, reservation: Reservation, size: int) -> bool:
        """Make `size` bytes in all belong to the reservation, evicting others; False, and no eviction, if they cannot.

        Raises OSError.
        """
        async with self._names:
            free = await trio.to_thread.run_sync(self.disk.free_bytes, self.root)
            excess = self._excess(size - reservation.reserved_bytes, free)
            if excess > self.index.evictable_bytes:
                return False
            await self._evict(excess)
            reservation.reserved_bytes = size
        return True

    async def trim(self) -> None:
        """Evict until the targets hold again."""
        async with self._names:
            free = await trio.to_thread.run_sync(self.disk.free_bytes, self.root)
            await self._evict(self._excess(0, free))

    def _excess(self, more_bytes: int, free_bytes: int) -> int:
        unwritten = sum(r.reserved_bytes - min(r.written_bytes, r.reserved_bytes) for r in self.reservations)
        excess = self._keep_free_bytes + unwritten + more_bytes - free_bytes
        if self._max_cache_bytes is not None:
            reserved = sum(r.reserved_bytes for r in self.reservations)
            excess = max(excess, self.index.total_bytes + reserved + more_bytes - self._max_cache_bytes)
        return excess

    async def _evict(self, bytes_to_free: int) -> None:
        if bytes_to_free > 0 and (victims := self.index.evict(bytes_to_free)):
            await trio.to_thread.run_sync(self._unlink, [Resource.unpack(key) for key in victims])

    def _unlink(self, victims: list[Resource]) -> None:
        for resource in victims:
            try:
                self.disk.unlink(self.path(resource))
            except OSError as error:  # the others can still make room; the next scan finds this one again
                structlog.get_logger().warning("cannot evict", resource=resource.name, error=error.strerror)

    async def place(self, reservation: Reservation) -> None:
        """Give a sealed file its name in `cache/`. Raises OSError."""
        async with self._names:
            target = self.path(reservation.resource)
            try:
                await trio.to_thread.run_sync(self.files.move, reservation.path, target)
            except OSError:
                self.disk.unlink(target)  # it has its name, and no entry, if only the folder was not made durable
                raise
            self.index.add(reservation.resource.pack(), reservation.written_bytes, time.time_ns())
            self.reservations.discard(reservation)

    async def admit(self, resource: Resource, stat: FileStat) -> None:
        """Take a file of `cache/` that was found right, as it was at `stat`, for verified."""
        async with self._names:
            if await trio.to_thread.run_sync(self._vouch, resource, stat):
                self.index.trust(resource.pack(), stat.size_bytes, time.time_ns())

    def _vouch(self, resource: Resource, stat: FileStat) -> bool:
        """Remember the file as verified if it still is what it was."""
        held = self.files.holds(resource, stat)
        if held:
            self.verified.add(resource.name, stat)
        return held

    def pin(self, resources: Collection[Resource]) -> None:
        """Keep these, and no others, from eviction."""
        self.index.pinned = frozenset(resource.pack() for resource in resources)

    async def quarantine(self, resource: Resource) -> None:
        """Move a wrong file out of `cache/` to where an operator can look at it."""
        async with self._names:
            self.index.drop(resource.pack())
            await trio.to_thread.run_sync(self._move_to_quarantine, resource)

    def _move_to_quarantine(self, resource: Resource) -> None:
        self.verified.forget(resource.name)
        with contextlib.suppress(FileNotFoundError):  # somebody else was quicker
            self.files.quarantine(resource)

    async def sha256(self, resource: Resource, stored: StoredFile) -> str:
        """Return the SHA-256 (64 hex) of a verified file: remembered, or computed and remembered."""

        def look_up() -> str:
            known = self.verified.sha256(resource.name, stored.stat)
            if known is None:
                known = stored.file.sha256()
                self.verified.add(resource.name, stored.stat, sha256=known)
            return known

        return await trio.to_thread.run_sync(look_up)

    def suspects(self) -> list[Resource]:
        """Return the files that are in `cache/` and not known as right."""
        return [Resource.unpack(key) for key in self.index.suspects]

    async def scan(self) -> None:
        """Rebuild the index from the disk; what is used or committed meanwhile counts as newer."""
        found, suspects = await trio.to_thread.run_sync(self._look_around)
        self.index.seed(found, suspects)
        await self.trim()

    def _look_around(self) -> tuple[list[tuple[bytes, int]], set[bytes]]:
        suspects: set[bytes] = set()
        aged: list[tuple[int, bytes, int]] = []
        for found in self.files.list():
            if found.resource is None:
                continue  # an operator's or another program's file: left alone
            key = found.resource.pack()
            aged.append((found.stat.atime_ns, key, found.stat.size_bytes))
            if not self.verified.knows(found.name, found.stat):
                suspects.add(key)
        aged.sort()
        return [(key, size) for _, key, size in aged], suspects

    async def save_access_times(self) -> None:
        """Write the times of use since the last call to the files' access times, where the next start finds them."""
        used = self.index.take_used()
        await trio.to_thread.run_sync(self._save_access_times, used)

    def _save_access_times(self, used: dict[bytes, int]) -> None:
        for key, atime_ns in used.items():
            try:
                self.disk.set_atime(self.path(Resource.unpack(key)), atime_ns)
            except OSError:  # evicted meanwhile, or another user's file: only its age is lost
                continue

"""The cache on disk: a write is a transaction, the index is a memory of the disk, the disk is the truth.

1. A file enters `cache/` only by `Reservation.commit`. After kill -9 at any instant `cache/` holds whole, verified
   files and `temp/` is rubbish.
2. Space is reserved before it is used, as bytes come, by evicting the files used longest ago. What does not fit even so
   is written all the same, and dropped instead of committed.
3. The index is changed on Trio's thread only. A name in `cache/` and its entry change together, under one lock.
4. `open_verified` serves only what was verified, and still has the size and time that it had then. Anything else in
   `cache/` is a *suspect*, hashed before it is served.
"""

from __future__ import annotations

import contextlib
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import structlog
import trio

from pkgserver_trio.resource import TARBALLS, Resource
from pkgserver_trio.statistics import Statistics
from pkgserver_trio.storage.cache_files import CacheFiles
from pkgserver_trio.storage.index import Index
from pkgserver_trio.storage.open_file import OpenFile, StoredFile
from pkgserver_trio.storage.remedies import Remedies
from pkgserver_trio.storage.reservation import Reservation, disk_errors_are_unavailability
from pkgserver_trio.storage.space import Space
from pkgserver_trio.storage.survey import save_access_times, survey
from pkgserver_trio.trouble import Trouble, trouble_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from pkgserver_trio.resource import Kind
    from pkgserver_trio.storage.disk import Disk, FileStat
    from pkgserver_trio.storage.verified import Verified


class Store:
    """The folder `root` with its `cache/`, `temp/` and `quarantine/`, and the memory of what is verified.

    `wall_ns` tells the time in nanoseconds since the epoch; it may jump. Uses are counted in `statistics`.
    """

    def __init__(
        self,
        root: Path,
        disk: Disk,
        verified: Verified,
        *,
        keep_free_bytes: int,
        max_cache_bytes: int | None,
        wall_ns: Callable[[], int] = time.time_ns,
        statistics: Statistics | None = None,
        kinds: tuple[Kind, ...] = TARBALLS,
    ) -> None:
        self.root, self.disk = root, disk
        self.files = CacheFiles(root, disk, kinds)
        self.verified = verified
        self._remedies = Remedies(self.files, verified)
        self.statistics = statistics or Statistics()
        self.index = Index(self.statistics.recent)
        self.space = Space(self.files, self.index, keep_free_bytes=keep_free_bytes, max_cache_bytes=max_cache_bytes)
        self.reservations = self.space.reservations
        self._names = self.space.names  # rule 3
        self._wall_ns, self._serial = wall_ns, 0

    def path(self, resource: Resource) -> Path:
        """Return where the resource's file is, or would be."""
        return self.files.path(resource)

    def open_verified(self, resource: Resource) -> StoredFile | None:
        """Return the open file of a verified resource and count its use; no checkpoint, no wait but for open(2).

        None when it is absent, a suspect, or not what was verified: `open_any` tells which. Raises StorageFailedError.
        """
        key = resource.pack()
        if not self.index.trusts(key):
            return None
        with disk_errors_are_unavailability(resource):
            stored = self._open(resource)
        if stored is None or not self.index.is_unchanged(key, stored.stat):
            if stored is not None:
                stored.close()
            self.index.drop(key)
            return None
        self.index.touch(key, self._wall_ns())
        return stored

    async def open_any(self, resource: Resource) -> tuple[StoredFile, bool] | None:
        """Return the open file, whatever it holds, and whether it was verified; None when there is none to be read.

        Raises OSError when that says nothing of the file.
        """
        doubted = self.index.is_suspect(resource.pack())

        def look() -> tuple[StoredFile, bool] | None:
            stored = self._open(resource)
            known = stored is not None and not doubted and self.verified.knows(resource.name, stored.stat)
            return None if stored is None else (stored, known)

        return await trio.to_thread.run_sync(look)

    def _open(self, resource: Resource) -> StoredFile | None:
        """Open a file of the cache; None when there is none to be read.

        Raises OSError when that says nothing of the file.
        """
        try:
            file, stat = self.files.open(resource)
        except FileNotFoundError:
            return None
        except OSError as error:
            if trouble_of(error) is Trouble.SCARCE:
                raise
            structlog.get_logger().error("unreadable file in the cache", resource=resource.name, error=error.strerror)
            return None
        return StoredFile(file, stat, partial(self.doubt, resource))

    async def doubt(self, resource: Resource) -> None:
        """Make a file that could not be read a suspect."""
        structlog.get_logger().error("a file of the cache fails to be read", resource=resource.name)
        self.index.doubt(resource.pack())
        await trio.to_thread.run_sync(self.verified.forget, resource.name)

    @contextmanager
    def reserve(self, resource: Resource) -> Iterator[Reservation]:
        """Open a transaction that may `commit`; however else it ends, its file and its space are given back.

        Raises ResourceUnavailableError when the disk refuses.
        """
        self._serial += 1
        path = self.root / "temp" / f"{resource.tree_hash}.{self._serial}"
        with disk_errors_are_unavailability(resource):
            file = OpenFile(self.disk, self._create(path))
        reservation = Reservation(self, resource, path, file)
        self.reservations.add(reservation)
        try:
            yield reservation
        finally:
            self.reservations.discard(reservation)
            try:
                reservation.release()
            except OSError as error:  # it hides nothing of what happened before; the next start empties `temp/`
                structlog.get_logger().warning("temporary file left behind", path=str(path), error=error.strerror)

    def _create(self, path: Path) -> int:
        try:
            return self.disk.create(path)
        except FileNotFoundError:  # somebody removed the folder
            self.disk.make_folder(path.parent)
            return self.disk.create(path)

    async def place(self, reservation: Reservation) -> None:
        """Give a sealed file its name in `cache/`. Raises OSError."""
        async with self._names:
            key, target = reservation.resource.pack(), self.path(reservation.resource)
            try:
                stat = await trio.to_thread.run_sync(self._publish, reservation, target)
            except OSError:
                with contextlib.suppress(OSError):
                    self.disk.unlink(target)  # it has its name, and no entry, if only the folder was not made durable
                self.index.drop(key)
                raise
            self.index.add(key, stat, self._wall_ns())
            self.reservations.discard(reservation)

    def _publish(self, reservation: Reservation, target: Path) -> FileStat:
        self.files.move(reservation.path, target)
        return self.disk.stat(reservation.file.fd)

    async def admit(self, resource: Resource, stat: FileStat) -> None:
        """Take a file of `cache/` that was found right, as it was at `stat`, for verified."""
        async with self._names:
            if await trio.to_thread.run_sync(self._remedies.admit, resource, stat):
                self.index.trust(resource.pack(), stat, self._wall_ns())

    def pin(self, resources: Collection[Resource]) -> None:
        """Keep these, and no others, from eviction."""
        self.index.pinned = frozenset(resource.pack() for resource in resources)

    async def quarantine(self, resource: Resource, stat: FileStat) -> bool:
        """Move a file that was found wrong, as it was at `stat`, to where an operator can look at it.

        False when it is not there any more. Raises OSError.
        """
        async with self._names:
            moved = await trio.to_thread.run_sync(self._remedies.quarantine, resource, stat)
            if moved:
                self.index.drop(resource.pack())
        return moved

    async def remove(self, resource: Resource) -> bool:
        """Remove the resource's file; False when there is none. Raises StorageFullError, StorageFailedError.

        Who reads it now goes on; it does not come back after a power cut.
        """
        async with self._names:
            with disk_errors_are_unavailability(resource):
                removed = await trio.to_thread.run_sync(self._remedies.remove, resource)
            self.index.drop(resource.pack())
        return removed

    async def sha256(self, resource: Resource, stored: StoredFile) -> str:
        """Return the SHA-256 (64 hex) of a verified file: remembered, or computed and remembered.

        Raises StorageFailedError when the file cannot be read; it is a suspect then.
        """

        def look_up() -> str:
            known = self.verified.sha256(resource.name, stored.stat)
            if known is None:
                known = stored.file.sha256(stored.size_bytes)
                self.verified.add(resource.name, stored.stat, sha256=known)
            return known

        with disk_errors_are_unavailability(resource):
            try:
                return await trio.to_thread.run_sync(look_up)
            except OSError as error:
                failure = error
            await self.doubt(resource)
            raise failure

    def suspects(self) -> Iterator[Resource]:
        """Yield the files that are in `cache/` and not known as right; they may change meanwhile."""
        return map(Resource.unpack, self.index.suspects())

    async def scan(self) -> None:
        """Rebuild the index from the disk; what is used or committed meanwhile counts as newer. Raises OSError."""
        self.index.adopt(await trio.to_thread.run_sync(survey, self.files, self.verified))

    async def save_access_times(self) -> None:
        """Write the times of use since the last call to the files' access times, where the next start finds them."""
        await trio.to_thread.run_sync(save_access_times, self.files, self.index.take_used())

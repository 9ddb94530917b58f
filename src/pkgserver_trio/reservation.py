"""One write to the cache, as a transaction: reserve, write, commit; or release, which leaves nothing behind."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import trio

from pkgserver_trio.errors import StorageFailedError, StorageFullError
from pkgserver_trio.trouble import Trouble, trouble_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pkgserver_trio.open_file import OpenFile
    from pkgserver_trio.resource import Resource
    from pkgserver_trio.verified import Verified

#: How much a download of unknown size reserves ahead.
GROWTH_BYTES = 16 * 1024 * 1024


@contextmanager
def disk_errors_are_unavailability(resource: Resource) -> Iterator[None]:
    """Translate OSError: StorageFullError where room is missing, else StorageFailedError."""
    try:
        yield
    except OSError as error:
        if trouble_of(error) is Trouble.FULL:
            raise StorageFullError(f"the disk is full: {resource.name} cannot be stored") from error
        raise StorageFailedError(f"the disk failed: {resource.name}: {error.strerror}") from error


class Shelf(Protocol):
    """What a reservation needs of the store that made it."""

    verified: Verified

    async def claim(self, reservation: Reservation, size: int) -> bool:
        """Make `size` bytes in all belong to the reservation, if they can be had. Raises OSError."""

    async def place(self, reservation: Reservation) -> None:
        """Give the sealed file its name. Raises OSError."""


class Reservation:
    """A file in `temp/` that grows, and the space in the cache that is kept for it. Made by `Store.reserve`."""

    def __init__(self, shelf: Shelf, resource: Resource, path: Path, file: OpenFile) -> None:
        self.resource = resource
        self.path = path
        self.file = file
        self.reserved_bytes = 0
        self.written_bytes = 0
        self.fits = True
        self._shelf = shelf
        self._placed = False

    async def expect(self, size: int) -> None:
        """Reserve `size` bytes in all. When they cannot be had, the file will be dropped instead of committed."""
        with disk_errors_are_unavailability(self.resource):
            self.fits = await self._shelf.claim(self, size)
        if not self.fits:
            self.reserved_bytes = 0

    async def write(self, piece: bytes) -> None:
        """Append `piece`. Raises StorageFullError, StorageFailedError."""
        end = self.written_bytes + len(piece)
        if self.fits and end > self.reserved_bytes:
            await self.expect(end + GROWTH_BYTES)
            if not self.fits:
                await self.expect(end)
        with disk_errors_are_unavailability(self.resource):
            await trio.to_thread.run_sync(self.file.disk.write, self.file.fd, piece, self.written_bytes)
        self.written_bytes = end

    async def count_equal(self, piece: bytes, offset: int) -> int:
        """Return how many bytes of `piece` are, from its start on, what is written at `offset`.

        Raises StorageFailedError.
        """
        with disk_errors_are_unavailability(self.resource):
            written = await trio.to_thread.run_sync(self.file.disk.read, self.file.fd, len(piece), offset)
        if written == piece:
            return len(piece)
        return next(
            (n for n, (ours, theirs) in enumerate(zip(written, piece, strict=False)) if ours != theirs), len(written)
        )

    async def cut(self, kept_bytes: int) -> None:
        """Throw away what is written beyond `kept_bytes`. Raises StorageFailedError."""
        with disk_errors_are_unavailability(self.resource):
            await trio.to_thread.run_sync(self.file.disk.truncate, self.file.fd, kept_bytes)
        self.written_bytes = kept_bytes

    async def commit(self, mtime_seconds: int) -> None:
        """Make the file durable, then visible, in this order; or drop it when there is no room to keep it.

        It will have the modification time `mtime_seconds` since the epoch.

        Call it only for content that was verified. Raises StorageFullError, StorageFailedError.
        """
        if not self.fits:
            return
        with disk_errors_are_unavailability(self.resource):
            await trio.to_thread.run_sync(self._seal, mtime_seconds)
            await self._shelf.place(self)
        self._placed = True

    def _seal(self, mtime_seconds: int) -> None:
        disk, fd = self.file.disk, self.file.fd
        disk.set_mtime(fd, mtime_seconds * 1_000_000_000)
        disk.fsync(fd)
        self._shelf.verified.add(self.resource.name, disk.stat(fd))

    def release(self) -> None:
        """Let go of the file and, unless it was committed, remove it."""
        self.file.release()
        if not self._placed:
            self.file.disk.unlink(self.path)

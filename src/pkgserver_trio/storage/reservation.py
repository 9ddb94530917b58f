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

    from pkgserver_trio.resource import Resource
    from pkgserver_trio.storage.open_file import OpenFile
    from pkgserver_trio.storage.space import Space
    from pkgserver_trio.storage.verified import Verified

#: How much is reserved ahead at most, and never more than has come: a false size costs no more than what it sends.
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
    space: Space

    async def place(self, reservation: Reservation) -> None:
        """Give the sealed file its name. Raises OSError."""


class Reservation:
    """A file in `temp/` that grows, and the space in the cache that is kept for it. Made by `Store.reserve`."""

    def __init__(self, shelf: Shelf, resource: Resource, path: Path, file: OpenFile) -> None:
        self.resource = resource
        self.path = path
        self.file = file
        self.promised_bytes = 0
        """What it may come to take: never less than is reserved."""
        self.reserved_bytes = 0
        self.written_bytes = 0
        self.fits = True
        self._shelf = shelf
        self._placed = False

    async def expect(self, size: int) -> None:
        """Take note of the whole size. When so much cannot be had, the file will be dropped instead of committed."""
        with disk_errors_are_unavailability(self.resource):
            self.fits = await self._shelf.space.promise(self, size)
        if not self.fits:
            self.promised_bytes = self.reserved_bytes = 0

    async def _reserve(self, size: int) -> None:
        """Reserve `size` bytes, and some for what will come. When they cannot be had, it does not fit."""
        ahead = size + min(size, GROWTH_BYTES)
        if size <= self.promised_bytes:
            ahead = min(ahead, self.promised_bytes)
        with disk_errors_are_unavailability(self.resource):
            self.fits = await self._shelf.space.claim(self, ahead)
            if not self.fits and ahead > size:
                self.fits = await self._shelf.space.claim(self, size)
        if not self.fits:
            self.promised_bytes = self.reserved_bytes = 0

    async def write(self, piece: bytes) -> None:
        """Append `piece`. Raises StorageFullError, StorageFailedError."""
        end = self.written_bytes + len(piece)
        if self.fits and end > self.reserved_bytes:
            await self._reserve(end)
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
        if self.fits and self.written_bytes > self.reserved_bytes:  # only the last server's size fits
            await self._reserve(self.written_bytes)
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

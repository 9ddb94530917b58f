"""Tree hashes of files on disk, computed in threads, in visits of bounded work.

What is hashed is read back from the disk: so what is verified is what is there, and neither the network nor a slow
client waits for it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

import trio

from pkgserver_trio.tarballs.tree_hash import TarballError, TreeHasher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pkgserver_trio.resource import Resource
    from pkgserver_trio.storage.open_file import OpenFile
    from pkgserver_trio.tarballs.stream import TarLimits
    from pkgserver_trio.tarballs.tree_hash import TreeHashes

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: Bytes of a file that are read per visit to a thread, and kept until they are hashed (less is slower: measured).
_READ_BYTES = 1024 * 1024
#: What a visit unpacks before it makes room for others, and a little more: a bomb's bytes are a thousand times as many.
_UNPACKED_BYTES = 4 * 1024 * 1024


def read_on(file: OpenFile, position: int, stop: int) -> bytes:
    """Return the bytes of a file that one visit takes, from `position`, below `stop`. Raises TarballError, OSError."""
    piece = file.disk.read(file.fd, min(_READ_BYTES, stop - position), position)
    if not piece:
        raise TarballError("the file became shorter while it was read")
    return piece


class FileHasher:
    """A file that is being hashed, in visits of bounded work to a thread."""

    def __init__(self, file: OpenFile, limits: TarLimits) -> None:
        self.hashed_bytes = 0
        self.seen_bytes = 0
        """How far the file was read: what lies between is hashed by the next visits."""
        self._file = file
        self._hasher = TreeHasher(limits)
        self._steps: Iterator[int] = iter(())

    def visit(self, stop: int) -> None:
        """Hash on from `hashed_bytes`, at most to `stop`. Raises TarballError, OSError."""
        if self.seen_bytes == self.hashed_bytes:
            self._read(stop)
        room = _UNPACKED_BYTES
        for unpacked_bytes in self._steps:
            room -= unpacked_bytes
            if room <= 0:
                return
        self.hashed_bytes = self.seen_bytes

    def finish(self) -> TreeHashes:
        """Return the hashes of what was hashed. Raises TarballError."""
        return self._hasher.finish()

    def _read(self, stop: int) -> None:
        piece = read_on(self._file, self.seen_bytes, stop)
        self._steps = self._hasher.steps(piece)
        self.seen_bytes += len(piece)


class Threads:
    """The threads that hash: no more at a time than `threads`, by default as many as there are processors to run them.

    They are given out in turn, visit by visit: nobody waits for a whole file of another's, however well it is packed.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._limiter = trio.CapacityLimiter(threads or os.cpu_count() or 1)

    async def run(self, visit: Callable[[*Ts], T], *args: *Ts) -> T:
        """Return what `visit` returns, from a thread, when it is its turn."""
        return await trio.to_thread.run_sync(visit, *args, limiter=self._limiter)


class Hashing:
    """What a tarball may hold, and the `threads` that hash it (`Threads`)."""

    def __init__(self, limits: TarLimits, *, threads: int | None = None) -> None:
        self._limits = limits
        self.threads = Threads(threads)

    def begin(self, file: OpenFile) -> FileHasher:
        """Return a hasher of the file, from its start."""
        return FileHasher(file, self._limits)

    async def whole(self, file: OpenFile, size: int) -> TreeHashes:
        """Hash a whole file of `size` bytes. Raises TarballError, OSError."""
        hasher = self.begin(file)
        while hasher.hashed_bytes < size:
            await self.visit(hasher, size)
        return await self.finish(hasher)

    async def fault_of(self, file: OpenFile, size: int, resource: Resource) -> str | None:
        """Return why a whole file of `size` bytes is not the resource; None when it is. Raises OSError."""
        try:
            hashes = await self.whole(file, size)
        except TarballError as error:
            return f"no tarball: {error}"
        return None if hashes.include(resource.tree_hash) else f"another tree, {hashes.skip_empty}"

    async def visit(self, hasher: FileHasher, stop: int) -> None:
        """Do `FileHasher.visit` when it is its turn. Raises TarballError, OSError."""
        await self.threads.run(hasher.visit, stop)

    async def finish(self, hasher: FileHasher) -> TreeHashes:
        """Do `FileHasher.finish` when it is its turn. Raises TarballError."""
        return await self.threads.run(hasher.finish)

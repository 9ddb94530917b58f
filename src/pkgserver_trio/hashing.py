"""Tree hashes of files on disk, computed in threads: of whole files, and of files that still grow.

What is hashed is read back from the disk: so what is verified is what is there, and neither the network nor a slow
client waits for it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio

from pkgserver_trio.tree_hash import TarballError, TreeHasher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pkgserver_trio.open_file import OpenFile
    from pkgserver_trio.progress import Progress, State
    from pkgserver_trio.resource import Resource
    from pkgserver_trio.tar_stream import TarLimits
    from pkgserver_trio.tree_hash import TreeHashes

#: Bytes of a file that are read per visit to a thread, and kept until they are hashed (less is slower: measured).
_READ_BYTES = 1024 * 1024
#: What a visit unpacks before it makes room for others, and a little more: a bomb's bytes are a thousand times as many.
_UNPACKED_BYTES = 4 * 1024 * 1024


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
        piece = self._file.disk.read(self._file.fd, min(_READ_BYTES, stop - self.seen_bytes), self.seen_bytes)
        if not piece:
            raise TarballError("the file became shorter while it was read")
        self._steps = self._hasher.steps(piece)
        self.seen_bytes += len(piece)


class Hashing:
    """The threads that hash, and what a tarball may hold.

    No more at a time than `threads`, by default as many as there are processors to run them. They are given out in
    turn, visit by visit: nobody waits for a whole file of another's, however well it is packed.
    """

    def __init__(self, limits: TarLimits, *, threads: int | None = None) -> None:
        self._limits = limits
        self._threads = trio.CapacityLimiter(threads or os.cpu_count() or 1)

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
        await trio.to_thread.run_sync(hasher.visit, stop, limiter=self._threads)

    async def finish(self, hasher: FileHasher) -> TreeHashes:
        """Do `FileHasher.finish` when it is its turn. Raises TarballError."""
        return await trio.to_thread.run_sync(hasher.finish, limiter=self._threads)


class Follower:
    """Hashes a download while it grows, only what its server has confirmed, and anew what was cut.

    It can be cancelled, and goes on where it was when `follow` is called again: by another server, if need be.
    """

    def __init__(self, hashing: Hashing, progress: Progress, file: OpenFile) -> None:
        self._hashing = hashing
        self._progress = progress
        self._file = file
        self._hasher = hashing.begin(file)
        self._cuts = 0

    async def follow(self) -> TreeHashes:
        """Return the hashes once all has arrived. Raises TarballError as soon as it is known to be no tarball."""
        while True:
            state = await self._progress.wait_for(self._has_work)
            if self._is_cut(state):
                self._start_anew()
                continue
            try:
                if state.confirmed_bytes <= self._hasher.hashed_bytes:
                    return await self._finish()
                await self._hashing.visit(self._hasher, state.confirmed_bytes)
            except TarballError:
                self._start_anew()
                if self._progress.state.cuts == state.cuts:  # else it may have read what was being cut
                    raise
                continue
            if not self._is_cut(self._progress.state):
                self._progress.hash_to(self._hasher.hashed_bytes)

    async def _finish(self) -> TreeHashes:
        hasher = self._hasher
        self._start_anew()  # whatever it says: this one cannot go on
        return await self._hashing.finish(hasher)

    def _start_anew(self) -> None:
        self._hasher = self._hashing.begin(self._file)
        self._cuts = len(self._progress.state.cuts)

    def _is_cut(self, state: State) -> bool:
        """Tell whether bytes that the hasher has seen are no more."""
        kept = state.kept_since(self._cuts)
        return kept is not None and kept < self._hasher.seen_bytes

    def _has_work(self, state: State) -> bool:
        return state.confirmed_bytes > self._hasher.hashed_bytes or state.arrived or self._is_cut(state)

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
    from pkgserver_trio.open_file import OpenFile
    from pkgserver_trio.progress import Progress, State
    from pkgserver_trio.tar_stream import TarLimits
    from pkgserver_trio.tree_hash import TreeHashes

#: Bytes that the hasher takes per visit to its thread.
_HASH_BYTES = 1024 * 1024


class Hashing:
    """The threads that hash, and what a tarball may hold.

    No more at a time than `threads`, by default as many as there are processors to run them.
    """

    def __init__(self, limits: TarLimits, *, threads: int | None = None) -> None:
        self._limits = limits
        self._threads = trio.CapacityLimiter(threads or os.cpu_count() or 1)

    def begin(self) -> TreeHasher:
        """Return a hasher that has seen nothing."""
        return TreeHasher(self._limits)

    async def whole(self, file: OpenFile, size: int) -> TreeHashes:
        """Hash a whole file of `size` bytes. Raises TarballError, OSError."""
        hasher = self.begin()
        offset = 0
        while offset < size:
            offset = await self.feed(hasher, file, offset, size)
        return await self.finish(hasher)

    async def feed(self, hasher: TreeHasher, file: OpenFile, offset: int, stop: int) -> int:
        """Show the hasher the file from `offset` on, at most to `stop`; return how far it came.

        Raises TarballError, OSError.
        """

        def feed() -> int:
            piece = file.disk.read(file.fd, min(_HASH_BYTES, stop - offset), offset)
            if not piece:
                raise TarballError("the file became shorter while it was read")
            hasher.feed(piece)
            return offset + len(piece)

        return await trio.to_thread.run_sync(feed, limiter=self._threads)

    async def finish(self, hasher: TreeHasher) -> TreeHashes:
        """Return the hashes of what the hasher has seen. Raises TarballError."""
        return await trio.to_thread.run_sync(hasher.finish, limiter=self._threads)


class Follower:
    """Hashes a download while it grows, only what its server has confirmed, and anew what was cut.

    It can be cancelled, and goes on where it was when `follow` is called again: by another server, if need be.
    """

    def __init__(self, hashing: Hashing, progress: Progress, file: OpenFile) -> None:
        self._hashing = hashing
        self._progress = progress
        self._file = file
        self._hasher = hashing.begin()
        self._offset = 0
        self._cuts = 0

    async def follow(self) -> TreeHashes:
        """Return the hashes once all has arrived. Raises TarballError as soon as it is known to be no tarball."""
        while True:
            state = await self._progress.wait_for(self._has_work)
            if self._is_cut(state):
                self._start_anew()
                continue
            try:
                if state.confirmed_bytes <= self._offset:
                    return await self._finish()
                self._offset = await self._hashing.feed(self._hasher, self._file, self._offset, state.confirmed_bytes)
            except TarballError:
                self._start_anew()
                if self._progress.state.cuts == state.cuts:  # else it may have read what was being cut
                    raise
                continue
            if not self._is_cut(self._progress.state):
                self._progress.hash_to(self._offset)

    async def _finish(self) -> TreeHashes:
        hasher = self._hasher
        self._start_anew()  # whatever it says: this one cannot go on
        return await self._hashing.finish(hasher)

    def _start_anew(self) -> None:
        self._hasher = self._hashing.begin()
        self._offset = 0
        self._cuts = len(self._progress.state.cuts)

    def _is_cut(self, state: State) -> bool:
        """Tell whether bytes that the hasher has seen are no more."""
        kept = state.kept_since(self._cuts)
        return kept is not None and kept < self._offset

    def _has_work(self, state: State) -> bool:
        return state.confirmed_bytes > self._offset or state.arrived or self._is_cut(state)

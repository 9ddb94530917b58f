"""Tree hashes of files on disk, computed in threads: of whole files, and of files that still grow.

What is hashed is read back from the disk: so what is verified is what is there, and neither the network nor a slow
client waits for it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, TypeVarTuple

import trio

from pkgserver_trio.tarballs.tree_hash import TarballError, TreeHasher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pkgserver_trio.downloads.progress import Progress, State
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


class Visited(Protocol):
    """A file that is being hashed, as `FileHasher` is."""

    hashed_bytes: int
    seen_bytes: int


V = TypeVar("V", bound=Visited)
R_co = TypeVar("R_co", covariant=True)


class Visits(Protocol[V, R_co]):
    """A way to hash files in visits, as `Hashing` is."""

    def begin(self, file: OpenFile) -> V:
        """Return a hasher of the file, from its start."""

    async def visit(self, hasher: V, stop: int) -> None:
        """Hash on, at most to `stop`. Raises TarballError, OSError."""

    async def finish(self, hasher: V) -> R_co:
        """Return what the file hashes to. Raises TarballError."""


class Follower(Generic[V, R_co]):
    """Hashes a download while it grows, only what its server has confirmed, and anew what was cut.

    It can be cancelled, and goes on where it was when `follow` is called again: by another server, if need be.
    """

    def __init__(self, hashing: Visits[V, R_co], progress: Progress, file: OpenFile) -> None:
        self._hashing = hashing
        self._progress = progress
        self._file = file
        self._hasher = hashing.begin(file)
        self._cuts = 0

    async def follow(self) -> R_co:
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

    async def _finish(self) -> R_co:
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


class Proof(Protocol):
    """What tells whether a download is what was asked for; as a `Follower`, it can be asked again."""

    async def find_fault(self) -> str | None:
        """Return what is wrong with all that has arrived, once it is known; None: nothing. Raises OSError."""


class TreeProof:
    """A download is right when it is the tarball of the tree that its name tells."""

    def __init__(self, hashing: Hashing, resource: Resource, progress: Progress, file: OpenFile) -> None:
        self._tree_hash = resource.tree_hash
        self._follower = Follower(hashing, progress, file)

    async def find_fault(self) -> str | None:
        """Return why it is not that tree."""
        try:
            hashes = await self._follower.follow()
        except TarballError as error:
            return str(error)
        return None if hashes.include(self._tree_hash) else f"sent another tree, {hashes.skip_empty}"

"""What tells whether a download is right: computed from what is on disk, while it grows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from pkgserver_trio.tarballs.tree_hash import TarballError

if TYPE_CHECKING:
    from pkgserver_trio.downloads.progress import Progress, State
    from pkgserver_trio.resource import Resource
    from pkgserver_trio.storage.hashing import Hashing
    from pkgserver_trio.storage.open_file import OpenFile


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

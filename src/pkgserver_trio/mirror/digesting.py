"""The proof of an object: its size was told by who sent it, its digest is computed from what is on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkgserver_trio.downloads.proof import Follower
from pkgserver_trio.mirror.object_digest import DigestHasher
from pkgserver_trio.storage.hashing import read_on
from pkgserver_trio.tarballs.tree_hash import TarballError

if TYPE_CHECKING:
    from pkgserver_trio.downloads.progress import Progress
    from pkgserver_trio.mirror.object_digest import Digest
    from pkgserver_trio.resource import Resource
    from pkgserver_trio.storage.hashing import Threads
    from pkgserver_trio.storage.open_file import OpenFile


class FileDigester:
    """A file whose digest is being computed, in visits of bounded work to a thread."""

    def __init__(self, file: OpenFile, expected: Digest | None) -> None:
        self.hashed_bytes = self.seen_bytes = 0
        self._file = file
        self._hasher = DigestHasher(expected)

    def visit(self, stop: int) -> None:
        """Go on, at most to `stop`. Raises TarballError when the file ends before, OSError."""
        for size in self._hasher.steps(read_on(self._file, self.seen_bytes, stop)):
            self.hashed_bytes = self.seen_bytes = self.seen_bytes + size

    def finish(self) -> str | None:
        """Return what is wrong with what was read; None: nothing."""
        return self._hasher.find_fault()


class Digesting:
    """Compares files with `expected`, on the threads that hash everything."""

    def __init__(self, threads: Threads, expected: Digest | None) -> None:
        self._threads = threads
        self._expected = expected

    def begin(self, file: OpenFile) -> FileDigester:
        """Return what digests the file, from its start."""
        return FileDigester(file, self._expected)

    async def visit(self, hasher: FileDigester, stop: int) -> None:
        """Do `FileDigester.visit` when it is its turn."""
        await self._threads.run(hasher.visit, stop)

    async def finish(self, hasher: FileDigester) -> str | None:
        """Do `FileDigester.finish` when it is its turn."""
        return await self._threads.run(hasher.finish)


class DigestProof:
    """A download is right when its digest is the one that its origin told, if that can be checked."""

    def __init__(
        self, threads: Threads, expected: Digest | None, _resource: Resource, progress: Progress, file: OpenFile
    ) -> None:
        self._follower = Follower(Digesting(threads, expected), progress, file)

    async def find_fault(self) -> str | None:
        """Return how it differs."""
        try:
            return await self._follower.follow()
        except TarballError as error:
            return str(error)


class Unproven:
    """Judges objects of which nothing is remembered: only an origin could tell whether they are whole."""

    async def fault_of(self, _file: OpenFile, _size: int, _resource: Resource) -> str | None:
        """Return that it is not known."""
        return "nothing is remembered of it"

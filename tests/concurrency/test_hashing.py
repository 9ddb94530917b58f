"""Many files hashed at one time, bombs among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from tests.disks import ScriptedDisk
from tests.lofts import tarball
from tests.unit.tarballs import END, file, gzipped, hashes_of
from trio.testing import wait_all_tasks_blocked

from pkgserver_trio.downloads.progress import Progress
from pkgserver_trio.downloads.proof import Follower
from pkgserver_trio.storage.hashing import Hashing
from pkgserver_trio.storage.open_file import OpenFile
from pkgserver_trio.tarballs.tree_hash import TarLimits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pkgserver_trio.storage.hashing import FileHasher

LIMITS = TarLimits(max_unpacked_bytes=1 << 30, max_members=10)
MIB = 1 << 20
#: 24 MiB that are packed so well that they are read at once.
BOMB = gzipped(file(b"zeros", bytes(24 * MIB)) + END)
SMALL = tarball("small", 5000)


@pytest.fixture
def bomb(tmp_path: Path) -> Iterator[OpenFile]:
    yield from laid(tmp_path / "bomb", BOMB)


def laid(path: Path, body: bytes) -> Iterator[OpenFile]:
    disk = ScriptedDisk()
    opened = OpenFile(disk, disk.create(path))
    disk.write(opened.fd, body, 0)
    yield opened
    opened.release()


async def test_a_visit_unpacks_little_of_a_bomb(bomb: OpenFile, no_threads: None) -> None:
    hashing = Hashing(LIMITS)
    hasher = hashing.begin(bomb)
    visits = 0
    while hasher.hashed_bytes < len(BOMB):
        assert hasher.hashed_bytes == 0  # so it is read once, and not before its hash is known
        await hashing.visit(hasher, len(BOMB))
        visits += 1
    assert visits > 4
    assert await hashing.finish(hasher) == hashes_of(BOMB)


async def test_who_comes_after_bombs_waits_for_a_few_visits_to_each(tmp_path: Path, bomb: OpenFile) -> None:
    hashing = Hashing(LIMITS, threads=1)
    ended: list[str] = []

    async def hash_bomb() -> None:
        assert await hashing.whole(bomb, len(BOMB)) == hashes_of(BOMB)
        ended.append("bomb")

    async def hash_small(opened: OpenFile) -> None:
        assert await hashing.whole(opened, SMALL.size) == hashes_of(SMALL.body)
        ended.append("small")

    for small in laid(tmp_path / "small", SMALL.body):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(hash_bomb)
            await wait_all_tasks_blocked()
            nursery.start_soon(hash_small, small)
    assert ended[0] == "small"


async def test_a_hasher_goes_on_with_nothing_that_it_has_read_and_that_was_cut(
    tmp_path: Path, bomb: OpenFile, no_threads: None
) -> None:
    progress = Progress()
    progress.begin(None)
    progress.reach(len(BOMB))
    hashing = CuttingHashing(progress, bomb)
    hashes = await Follower(hashing, progress, bomb).follow()
    assert hashes == hashes_of(SMALL.body)
    assert hashing.visits == 2  # one to each: what it had read of the bomb might be no tarball at all


class CuttingHashing(Hashing):
    """After the first visit, another server's bytes are in the file, from the start."""

    def __init__(self, progress: Progress, file: OpenFile) -> None:
        super().__init__(LIMITS)
        self._progress, self._file = progress, file
        self.visits = 0

    async def visit(self, hasher: FileHasher, stop: int) -> None:
        await super().visit(hasher, stop)
        self.visits += 1
        if self.visits == 1:
            assert hasher.hashed_bytes == 0
            self._progress.cut(0)
            self._file.disk.write(self._file.fd, SMALL.body, 0)
            self._progress.reach(SMALL.size)
            self._progress.arrive()

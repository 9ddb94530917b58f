from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from pkgserver_trio.resource import Kind, Resource
from pkgserver_trio.storage.cache_files import CacheFiles
from pkgserver_trio.storage.disk import Disk, FileStat, warn_of
from pkgserver_trio.storage.survey import survey
from pkgserver_trio.storage.verified import Verified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ONE, TWO, THREE = (Resource(Kind.ARTIFACT, digit * 40) for digit in "123")
STAT = FileStat(size_bytes=10, mtime_ns=50, atime_ns=100, device=1, inode=2)


class Listing(Disk):
    """Lists these artifacts instead of any files."""

    def __init__(self, *files: tuple[Resource, FileStat]) -> None:
        self._files = files

    def files(self, folder: Path, unlisted: Callable[[OSError], None] = warn_of) -> Iterator[tuple[str, FileStat]]:
        if folder.name == Kind.ARTIFACT:
            yield from ((resource.tree_hash, stat) for resource, stat in self._files)


def test_a_file_that_is_listed_twice_counts_once_and_is_as_old_as_it_was_first(tmp_path: Path) -> None:
    disk = Listing((ONE, replace(STAT, atime_ns=1)), (TWO, replace(STAT, atime_ns=3)), (ONE, STAT), (THREE, STAT))
    with closing(Verified(tmp_path / "verified.sqlite")) as verified:
        verified.add(TWO.name, STAT)
        index = survey(CacheFiles(tmp_path, disk), verified)
    assert index.oldest_worth(99) == [ONE.pack(), TWO.pack(), THREE.pack()]
    assert index.total_bytes == 30
    assert set(index.suspects()) == {ONE.pack(), THREE.pack()}
    assert [(use.key, use.used_ns) for use, _ in index.newest(2)] == [(THREE.pack(), 100), (TWO.pack(), 3)]


def test_a_time_of_use_that_no_array_takes_is_a_late_one(tmp_path: Path) -> None:
    times = {ONE: 2**64, TWO: -(2**61), THREE: 2**62}
    disk = Listing(*((resource, replace(STAT, atime_ns=time)) for resource, time in times.items()))
    with closing(Verified(tmp_path / "verified.sqlite")) as verified:
        index = survey(CacheFiles(tmp_path, disk), verified)
    assert index.oldest_worth(99) == [TWO.pack(), THREE.pack(), ONE.pack()]

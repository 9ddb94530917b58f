from __future__ import annotations

from pkgserver_trio.disk import FileStat
from pkgserver_trio.index import Index
from pkgserver_trio.recent import Recent, Use
from pkgserver_trio.resource import Kind, Resource

STAT = FileStat(size_bytes=10, mtime_ns=1_500_000_000_000_000_000, atime_ns=0, device=1, inode=2)
OTHER = FileStat(size_bytes=20, mtime_ns=0, atime_ns=0, device=1, inode=3)


def test_what_is_not_in_the_index_is_not_entered_by_its_use_or_by_doubts() -> None:
    index = Index()
    index.touch(1, 100)
    index.doubt(1)
    assert (len(index), index.suspects, index.take_used()) == (0, set(), {})


def test_times_of_use_never_go_back_and_are_told_once() -> None:
    index = Index()
    index.seed([(500, 3, 1, 0)], [])
    index.add(1, STAT, 100)
    index.add(2, STAT, 1000)
    index.touch(1, 900)
    assert index.take_used() == {2: 1000, 1: 1001}
    index.touch(3, 0)
    assert index.take_used() == {3: 1002}
    assert index.take_used() == {}


def test_a_file_found_right_keeps_its_age_unless_it_is_another_one() -> None:
    index = Index()
    index.add(1, STAT, 100)
    index.add(2, STAT, 200)
    index.doubt(1)
    assert not index.trusts(1)
    index.trust(1, STAT, 300)
    assert index.trusts(1)
    assert index.oldest_worth(1) == [1]
    index.trust(1, OTHER, 300)
    assert index.is_unchanged(1, OTHER)
    assert not index.is_unchanged(1, STAT)
    assert index.oldest_worth(1) == [2]


def test_a_postponed_file_is_the_last_to_go_and_was_not_used() -> None:
    index = Index()
    index.add(1, STAT, 100)
    index.add(2, STAT, 200)
    index.take_used()
    index.postpone(1)
    assert index.oldest_worth(1) == [2]
    assert index.take_used() == {}


def test_files_and_bytes_of_each_kind_follow_every_change() -> None:
    index = Index()
    uuid = "0fed4e60-1c94-4bd5-8a0e-3d1ff1c0f2a7"
    registry, package = (Resource(kind, "a" * 40, uuid).pack() for kind in (Kind.REGISTRY, Kind.PACKAGE))
    artifact = Resource(Kind.ARTIFACT, "0" * 40).pack()
    index.add(package, STAT, 100)
    index.seed([(1, registry, 5, 0), (2, package, 7, 0), (3, artifact, 9, 0)], [])
    assert [index.held(kind) for kind in Kind] == [(1, 5), (1, 10), (1, 9)]
    index.add(package, OTHER, 200)
    index.evict(artifact)
    index.drop(artifact)
    assert [index.held(kind) for kind in Kind] == [(1, 5), (1, 20), (0, 0)]
    assert (index.evicted_files, index.evicted_bytes) == (1, 9)
    index.drop(package)
    assert [index.held(kind) for kind in Kind] == [(1, 5), (0, 0), (0, 0)]


def test_the_newest_files_are_those_that_are_there_with_size_and_time() -> None:
    recent = Recent()
    index = Index(recent)
    recent.serve(9)
    index.seed([(50, 3, 1, 0), (60, 4, 2, 0)], [])
    index.add(1, STAT, 100)
    index.add(2, STAT, 200)
    index.drop(2)
    index.touch(3, 300)
    recent.serve(3)
    assert index.newest(10) == [(Use(3, 300, 1), 1), (Use(1, 100, 0), 10), (Use(4, 60, 0), 2)]
    assert index.newest(1) == [(Use(3, 300, 1), 1)]
    assert index.newest(0) == []


def test_the_size_of_a_known_file_is_told_be_it_a_suspect_or_not() -> None:
    index = Index()
    index.add(1, STAT, 100)
    index.doubt(1)
    assert (index.size_of(1), index.size_of(2)) == (10, None)

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from pkgserver_trio.recent import Recent, Use
from pkgserver_trio.resource import TARBALLS, Kind, Resource
from pkgserver_trio.storage.disk import FileStat
from pkgserver_trio.storage.index import Index

STAT = FileStat(size_bytes=10, mtime_ns=1_500_000_000_000_000_000, atime_ns=0, device=1, inode=2)
OTHER = FileStat(size_bytes=20, mtime_ns=0, atime_ns=0, device=1, inode=3)


def survey_of(*files: tuple[int, int, int]) -> Index:
    """Return what a survey makes of files: time of use, key, and size of each."""
    index = Index()
    used_ns = [used for used, key, size in files if index.enter(key, replace(STAT, size_bytes=size), suspect=False)]
    index.sort(used_ns)
    return index


def test_what_is_not_in_the_index_is_not_entered_by_its_use_or_by_doubts() -> None:
    index = Index()
    index.touch(1, 100)
    index.doubt(1)
    assert (len(index), list(index.suspects()), index.take_used()) == (0, [], {})


def test_times_of_use_never_go_back_and_are_told_once() -> None:
    index = Index()
    index.adopt(survey_of((500, 3, 1)))
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
    index.adopt(survey_of((1, registry, 5), (2, package, 7), (3, artifact, 9)))
    assert [index.held(kind) for kind in TARBALLS] == [(1, 5), (1, 10), (1, 9)]
    index.add(package, OTHER, 200)
    index.evict(artifact)
    index.drop(artifact)
    assert [index.held(kind) for kind in TARBALLS] == [(1, 5), (1, 20), (0, 0)]
    assert (index.evicted_files, index.evicted_bytes) == (1, 9)
    index.drop(package)
    assert [index.held(kind) for kind in TARBALLS] == [(1, 5), (0, 0), (0, 0)]


def test_the_newest_files_are_those_that_are_there_with_size_and_time() -> None:
    recent = Recent()
    index = Index(recent)
    recent.serve(9)
    index.adopt(survey_of((60, 4, 2), (50, 3, 1)))
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


def test_a_file_that_a_folder_lists_twice_is_entered_once() -> None:
    index = survey_of((20, 1, 5), (10, 2, 7), (90, 1, 6))
    assert (len(index), index.total_bytes, index.oldest_worth(13)) == (2, 12, [2, 1])


def test_what_a_survey_saw_and_was_dropped_since_does_not_come_back() -> None:
    index, found = Index(), survey_of((10, 1, 5), (20, 2, 5))
    index.drop(1)
    index.drop(2)
    index.add(2, STAT, 100)
    index.adopt(found)
    assert (index.oldest_worth(99), index.total_bytes) == ([2], 10)
    index.drop(2)
    assert index.total_bytes == 0


keys = st.integers(0, 9)


class IndexAgainstModel(RuleBasedStateMachine):
    """The model, a dict of sizes in order of age, knows from the start what the index learns from a late survey."""

    @initialize(found=st.lists(st.tuples(st.integers(0, 5), keys, st.integers(1, 9)), unique_by=lambda file: file[1]))
    def begin(self, found: list[tuple[int, int, int]]) -> None:
        self.index, self.found, self.adopted = Index(), found, False
        self.model = {key: size for _, key, size in sorted(found, key=lambda file: file[0])}

    @rule(key=keys, size=st.integers(1, 9))
    def add(self, key: int, size: int) -> None:
        """A commit, or a use of what the index does not know yet: that is inspected and entered."""
        self.index.add(key, replace(STAT, size_bytes=size), 0)
        self.model.pop(key, None)
        self.model[key] = size

    @rule(key=keys)
    def touch(self, key: int) -> None:
        if self.index.size_of(key) is not None:
            self.index.touch(key, 0)
            self.model[key] = self.model.pop(key)

    @rule(key=keys)
    def drop(self, key: int) -> None:
        self.index.drop(key)
        self.model.pop(key, None)

    @rule(size=st.integers(0, 20))
    def evict(self, size: int) -> None:
        for key in self.index.oldest_worth(size):
            self.index.evict(key)
            del self.model[key]

    @precondition(lambda self: not self.adopted)
    @rule()
    def adopt(self) -> None:
        self.index.adopt(survey_of(*self.found))
        self.adopted = True

    def teardown(self) -> None:
        if not self.adopted:
            self.adopt()
        assert self.index.oldest_worth(999) == list(self.model)
        assert self.index.total_bytes == sum(self.model.values())
        assert len(self.index) == len(self.model)
        assert {key: self.index.size_of(key) for key in self.model} == self.model


TestIndexAgainstModel = IndexAgainstModel.TestCase

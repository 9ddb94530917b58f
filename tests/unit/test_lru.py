from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pkgserver_trio.lru import Lru


def lru_of(*entries: tuple[str, int]) -> Lru[str]:
    """Return an Lru with these entries, oldest first."""
    lru: Lru[str] = Lru()
    for key, size in entries:
        lru.add(key, size, 0)
    return lru


def ages(lru: Lru[str]) -> list[str]:
    """Return all keys, oldest first."""
    return lru.oldest_worth(lru.total_bytes + 1)  # more than there is, so that empty entries are among them


def test_an_empty_one_has_nothing_to_give() -> None:
    lru = lru_of()
    assert (len(lru), lru.total_bytes, lru.oldest_worth(10)) == (0, 0, [])
    assert "a" not in lru
    assert lru.find("a") is None
    assert lru.size_of("a") == 0
    lru.remove("a")
    assert lru.total_bytes == 0


def test_an_added_entry_is_the_newest() -> None:
    lru = lru_of(("a", 1), ("b", 2))
    assert "a" in lru
    assert lru.size_of("b") == 2
    assert lru.total_bytes == 3
    assert ages(lru) == ["a", "b"]


def test_adding_again_replaces_size_and_mark_and_age() -> None:
    lru = lru_of(("a", 1), ("b", 2))
    lru.add("a", 10, 7)
    assert lru.find("a") == (10, 7)
    assert lru.total_bytes == 12
    assert ages(lru) == ["b", "a"]


@pytest.mark.parametrize("size", [0, 1, 2**36, 2**60])
@pytest.mark.parametrize("mark", [0, 1, 2**24 - 1])
def test_size_and_mark_are_kept_apart(size: int, mark: int) -> None:
    lru = lru_of(("b", 1))
    lru.add("a", size, mark)
    assert lru.find("a") == (size, mark)
    assert lru.total_bytes == size + 1


def test_touching_makes_newest_and_tells_whether_it_was_there() -> None:
    lru = lru_of(("a", 0), ("b", 2))
    assert lru.touch("a")
    assert not lru.touch("c")
    assert lru.total_bytes == 2
    assert ages(lru) == ["b", "a"]


def test_asking_is_no_use_of_it() -> None:
    lru = lru_of(("a", 1), ("b", 2))
    lru.size_of("a")
    lru.find("a")
    assert ages(lru) == ["a", "b"]


def test_a_removed_entry_is_forgotten() -> None:
    lru = lru_of(("a", 1), ("b", 2))
    lru.remove("a")
    assert lru.total_bytes == 2
    assert "a" not in lru


@pytest.mark.parametrize(
    ("size", "keep", "chosen"),
    [
        (-1, (), []),
        (0, (), []),
        (1, (), ["a"]),
        (10, (), ["a"]),
        (11, (), ["a", "b"]),
        (30, (), ["a", "b"]),
        (31, (), ["a", "b", "c"]),
        (999, (), ["a", "b", "c"]),
        (1, {"a"}, ["b"]),
        (21, {"b"}, ["a", "c"]),
        (999, {"a", "b", "c"}, []),
    ],
)
def test_no_more_of_the_oldest_are_chosen_than_are_worth_so_much(size: int, keep: set[str], chosen: list[str]) -> None:
    lru = lru_of(("a", 10), ("b", 20), ("c", 30))
    assert lru.oldest_worth(size, keep=keep) == chosen
    assert ages(lru) == ["a", "b", "c"]


def test_seeded_entries_are_older_than_all_and_never_replace() -> None:
    lru = lru_of(("a", 1), ("b", 2))
    lru.seed(iter([("c", 30, 5), ("a", 999, 6), ("d", 40, 7)]))
    assert lru.find("a") == (1, 0)
    assert lru.find("d") == (40, 7)
    assert lru.total_bytes == 73
    assert ages(lru) == ["c", "d", "a", "b"]


keys = st.integers(0, 7)
sizes = st.integers(0, 50)


class LruAgainstModel(RuleBasedStateMachine):
    """The model is a list of (key, size), oldest first."""

    def __init__(self) -> None:
        super().__init__()
        self.lru: Lru[int] = Lru()
        self.model: list[tuple[int, int]] = []

    def without(self, key: int) -> list[tuple[int, int]]:
        return [entry for entry in self.model if entry[0] != key]

    @rule(key=keys, size=sizes)
    def add(self, key: int, size: int) -> None:
        self.lru.add(key, size, key)
        self.model = [*self.without(key), (key, size)]

    @rule(key=keys)
    def touch(self, key: int) -> None:
        found = [entry for entry in self.model if entry[0] == key]
        assert self.lru.touch(key) is bool(found)
        self.model = self.without(key) + found

    @rule(key=keys)
    def remove(self, key: int) -> None:
        self.lru.remove(key)
        self.model = self.without(key)

    @rule(bytes_to_free=st.integers(-10, 200), keep=st.sets(keys, max_size=3))
    def evict(self, bytes_to_free: int, keep: set[int]) -> None:
        expected: list[int] = []
        freed = 0
        for key, size in self.model:
            if freed < bytes_to_free and key not in keep:
                expected.append(key)
                freed += size
        assert self.lru.oldest_worth(bytes_to_free, keep=keep) == expected
        for key in expected:
            self.lru.remove(key)
        self.model = [entry for entry in self.model if entry[0] not in expected]

    @rule(entries=st.lists(st.tuples(keys, sizes), unique_by=lambda entry: entry[0]))
    def seed(self, entries: list[tuple[int, int]]) -> None:
        self.lru.seed((key, size, key) for key, size in entries)
        self.model = [entry for entry in entries if entry[0] not in dict(self.model)] + self.model

    @invariant()
    def agree(self) -> None:
        assert self.lru.total_bytes == sum(size for _, size in self.model)
        assert len(self.lru) == len(self.model)
        for key in range(8):
            assert (key in self.lru) is (key in dict(self.model))
            size = dict(self.model).get(key)
            assert self.lru.find(key) == (None if size is None else (size, key))


TestLruAgainstModel = LruAgainstModel.TestCase

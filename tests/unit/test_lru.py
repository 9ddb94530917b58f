from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pkgserver_trio.storage.lru import KEY_BYTES, Entry, Lru

#: Two chains for all keys: most have a hash that another has, too.
CHAINS = 2
A, B, C, D = 0, 1, 2**160 + 1, 2 ** (8 * KEY_BYTES) - 1


def entry(size: int, mark: int = 0, *, suspect: bool = False) -> Entry:
    return Entry(size, mark, suspect)


def lru_of(*entries: tuple[int, int]) -> Lru:
    """Return an Lru with these keys and sizes, oldest first."""
    lru = Lru(CHAINS)
    for key, size in entries:
        lru.add(key, entry(size))
    return lru


def ages(lru: Lru) -> list[int]:
    """Return all keys, oldest first, after a look at the other ways to walk through them."""
    keys = [key for key, _ in lru.items()]
    assert list(lru.newest()) == keys[::-1]
    assert lru.oldest_worth(lru.total_bytes + 1) == keys  # more than there is, so that empty entries are among them
    return keys


def test_an_empty_one_has_nothing_to_give() -> None:
    lru = lru_of()
    assert (len(lru), lru.total_bytes, lru.oldest_worth(10)) == (0, 0, [])
    assert A not in lru
    assert lru.find(A) is None
    assert lru.size_of(A) == 0
    assert lru.remove(A) is None
    lru.sort([])
    assert ages(lru) == []


def test_an_added_entry_is_the_newest() -> None:
    lru = lru_of((A, 1), (B, 2))
    assert A in lru
    assert lru.size_of(B) == 2
    assert lru.total_bytes == 3
    assert ages(lru) == [A, B]


def test_adding_again_replaces_entry_and_age_and_tells_the_size_before() -> None:
    lru = lru_of((A, 0), (B, 2))
    assert lru.add(A, entry(10, 7, suspect=True)) == 0
    assert lru.add(C, entry(5)) is None
    assert lru.find(A) == (10, 7, True)
    assert lru.total_bytes == 17
    assert ages(lru) == [B, A, C]


@pytest.mark.parametrize("size", [0, 1, 2**36, 2**63])
@pytest.mark.parametrize("mark", [0, 1, 2**32 - 1])
@pytest.mark.parametrize("key", [A, B, C, D])
def test_the_largest_figures_are_kept(key: int, size: int, mark: int) -> None:
    lru = Lru()
    lru.add(key, entry(size, mark))
    assert list(lru.items()) == [(key, entry(size, mark))]
    assert lru.total_bytes == size


def test_touching_makes_newest_and_tells_whether_it_was_there() -> None:
    lru = lru_of((A, 0), (B, 2))
    assert lru.touch(A)
    assert not lru.touch(C)
    assert lru.total_bytes == 2
    assert ages(lru) == [B, A]


def test_asking_is_no_use_of_it() -> None:
    lru = lru_of((A, 1), (B, 2))
    lru.size_of(A)
    lru.find(A)
    lru.suspect(A, suspect=True)
    assert ages(lru) == [A, B]


def test_a_removed_entry_is_forgotten_and_its_suspicion_with_it() -> None:
    lru = lru_of((A, 1), (B, 2))
    lru.suspect(A, suspect=True)
    assert lru.remove(A) == 1
    assert (lru.total_bytes, len(lru), list(lru.suspects())) == (2, 1, [])
    assert A not in lru
    lru.add(C, entry(3))
    assert list(lru.suspects()) == []


def test_a_walk_through_the_suspects_stands_changes() -> None:
    lru = lru_of((A, 1), (B, 2), (C, 3))
    for key in (A, B, C):
        lru.suspect(key, suspect=True)
    seen = []
    for key in lru.suspects():
        seen.append(key)
        lru.suspect(key, suspect=False)
        lru.remove(B)
    assert seen == [A, C]


@pytest.mark.parametrize(
    ("size", "keep", "chosen"),
    [
        (-1, (), []),
        (0, (), []),
        (1, (), [A]),
        (10, (), [A]),
        (11, (), [A, B]),
        (30, (), [A, B]),
        (31, (), [A, B, C]),
        (999, (), [A, B, C]),
        (1, {A}, [B]),
        (21, {B}, [A, C]),
        (999, {A, B, C}, []),
    ],
)
def test_no_more_of_the_oldest_are_chosen_than_are_worth_so_much(size: int, keep: set[int], chosen: list[int]) -> None:
    lru = lru_of((A, 10), (B, 20), (C, 30))
    assert lru.oldest_worth(size, keep=keep) == chosen
    assert ages(lru) == [A, B, C]


@pytest.mark.parametrize("count", [1, 8191, 8192, 8193, 20_000])
def test_sorting_orders_by_time_and_ties_by_entry(count: int) -> None:
    lru = Lru()
    for key in range(count):
        lru.add(key, entry(key))
    times = [(key * 7919) % 1000 for key in range(count)]
    lru.sort(times)
    assert ages(lru) == sorted(range(count), key=times.__getitem__)
    lru.touch(5 % count)
    assert next(lru.newest()) == 5 % count
    assert len(lru) == count


@pytest.mark.parametrize("gone", range(5))
def test_a_key_is_unlinked_from_any_place_of_its_chain(gone: int) -> None:
    lru = Lru(chains=1)
    for key in range(5):
        lru.add(key, entry(key))
    lru.remove(gone)
    assert [key in lru for key in range(5)] == [key != gone for key in range(5)]
    assert ages(lru) == [key for key in range(5) if key != gone]


keys = st.sampled_from([A, B, 2, 3, 2**160, C, D - 1, D])
sizes = st.integers(0, 50)


class LruAgainstModel(RuleBasedStateMachine):
    """The model is a list of keys with their entries, oldest first."""

    def __init__(self) -> None:
        super().__init__()
        self.lru = Lru(CHAINS)
        self.model: list[tuple[int, Entry]] = []

    def without(self, key: int) -> list[tuple[int, Entry]]:
        return [held for held in self.model if held[0] != key]

    @rule(key=keys, size=sizes, mark=st.integers(0, 2), suspect=st.booleans())
    def add(self, key: int, size: int, mark: int, *, suspect: bool) -> None:
        before = dict(self.model).get(key)
        assert self.lru.add(key, Entry(size, mark, suspect)) == (before and before.size)
        self.model = [*self.without(key), (key, Entry(size, mark, suspect))]

    @rule(key=keys)
    def touch(self, key: int) -> None:
        found = [held for held in self.model if held[0] == key]
        assert self.lru.touch(key) is bool(found)
        self.model = self.without(key) + found

    @rule(key=keys, suspect=st.booleans())
    def suspect(self, key: int, *, suspect: bool) -> None:
        self.lru.suspect(key, suspect=suspect)
        self.model = [(k, e._replace(suspect=suspect) if k == key else e) for k, e in self.model]

    @rule(key=keys)
    def remove(self, key: int) -> None:
        before = dict(self.model).get(key)
        assert self.lru.remove(key) == (before and before.size)
        self.model = self.without(key)

    @rule(bytes_to_free=st.integers(-10, 200), keep=st.sets(keys, max_size=3))
    def evict(self, bytes_to_free: int, keep: set[int]) -> None:
        expected: list[int] = []
        freed = 0
        for key, held in self.model:
            if freed < bytes_to_free and key not in keep:
                expected.append(key)
                freed += held.size
        assert self.lru.oldest_worth(bytes_to_free, keep=keep) == expected
        for key in expected:
            self.lru.remove(key)
        self.model = [held for held in self.model if held[0] not in expected]

    @invariant()
    def agree(self) -> None:
        assert list(self.lru.items()) == self.model
        assert list(self.lru.newest()) == [key for key, _ in reversed(self.model)]
        assert sorted(self.lru.suspects()) == sorted(key for key, held in self.model if held.suspect)
        assert self.lru.total_bytes == sum(held.size for _, held in self.model)
        assert len(self.lru) == len(self.model)
        for key in (A, B, 2, 3, 2**160, C, D - 1, D):
            assert (key in self.lru) is (key in dict(self.model))
            assert self.lru.find(key) == dict(self.model).get(key)
            assert self.lru.size_of(key) == dict(self.model).get(key, entry(0)).size


TestLruAgainstModel = LruAgainstModel.TestCase

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pkgserver_trio.registries.rollbacks import Rollbacks

UUID = "23338594-aafe-5451-b93e-139f81909106"


def test_a_server_that_left_the_published_head_for_a_refused_one_is_counted_and_told_once() -> None:
    rollbacks = Rollbacks(100, longest_gap_seconds=60)
    rollbacks.hear(UUID, {"one": "B", "two": "A"}, "B", 0)
    rollbacks.hear(UUID, {"one": "A", "two": "A"}, "B", 1)
    assert rollbacks.refuse(UUID, {"one": "A", "two": "A"}, {"A"}) == ["A"]
    assert rollbacks.refuse(UUID, {"one": "A", "two": "A"}, {"A"}) == []
    assert rollbacks.refused == {(UUID, "one"): 1}, "the other only lags behind"


def test_each_time_is_counted_and_only_the_first_is_told() -> None:
    rollbacks = Rollbacks(100, longest_gap_seconds=60)
    for now in range(3):
        rollbacks.hear(UUID, {"one": "B"}, "B", now)
        rollbacks.hear(UUID, {"one": "A"}, "B", now + 0.5)
        assert rollbacks.refuse(UUID, {"one": "A"}, {"A"}) == ([] if now else ["A"])
    assert rollbacks.refused == {(UUID, "one"): 3}


def test_who_went_on_to_something_else_has_not_moved_back() -> None:
    rollbacks = Rollbacks(100, longest_gap_seconds=60)
    for head in "BCA":
        rollbacks.hear(UUID, {"one": head}, "B", 0)
    assert rollbacks.refuse(UUID, {"one": "A"}, {"A"}) == []
    assert rollbacks.refused == {}


def test_a_lone_head_is_meant_after_its_time() -> None:
    rollbacks = Rollbacks(100, longest_gap_seconds=60)
    assert not rollbacks.is_meant(UUID, "A")
    for now in (0, 50, 99):
        rollbacks.hear(UUID, {"one": "A", "two": "A"} if now else {"two": "A"}, "B", now)
        assert not rollbacks.is_meant(UUID, "A")
    rollbacks.hear(UUID, {"one": "A"}, "B", 100)
    assert rollbacks.is_meant(UUID, "A")
    assert not rollbacks.is_meant(UUID, "C")
    rollbacks.hear(UUID, {"one": "B", "two": "A"}, "B", 101)
    assert not rollbacks.is_meant(UUID, "A")
    for now in (150, 200, 249):
        rollbacks.hear(UUID, {"one": "A"}, "B", now)
    assert not rollbacks.is_meant(UUID, "A")


def test_a_time_in_which_nobody_was_heard_does_not_count() -> None:
    rollbacks = Rollbacks(100, longest_gap_seconds=60)
    for now in (0, 3, 4000, 4003):
        rollbacks.hear(UUID, {"one": "A"}, "B", now)
        rollbacks.hear(UUID, {}, "B", now + 1)
    assert not rollbacks.is_meant(UUID, "A")


HEARD = st.lists(st.dictionaries(st.sampled_from(["one", "two", "three"]), st.sampled_from("AB")))


@given(HEARD)
def test_what_is_meant_was_offered_by_all_that_were_heard_for_all_the_time(heard: list[dict[str, str]]) -> None:
    rollbacks = Rollbacks(3, longest_gap_seconds=1)
    counted = 0
    last: set[str] = set()
    for now, offers in enumerate(heard):
        rollbacks.hear(UUID, offers, "B", now)
        heads = set(offers.values())
        before_was_heard = now > 0 and bool(heard[now - 1])
        if heads:
            counted = counted + before_was_heard if heads == last == {"A"} else 0
            last = heads
        assert rollbacks.is_meant(UUID, "A") == (last == {"A"} and counted >= 3)

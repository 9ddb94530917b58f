from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pkgserver_trio.rollbacks import Rollbacks

UUID = "23338594-aafe-5451-b93e-139f81909106"


def test_a_server_that_left_the_published_head_for_a_refused_one_is_counted_and_told_once() -> None:
    rollbacks = Rollbacks(100)
    rollbacks.hear(UUID, {"one": "B", "two": "A"}, "B", 0)
    rollbacks.hear(UUID, {"one": "A", "two": "A"}, "B", 1)
    assert rollbacks.refuse(UUID, {"one": "A", "two": "A"}, {"A"}) == ["A"]
    assert rollbacks.refuse(UUID, {"one": "A", "two": "A"}, {"A"}) == []
    assert rollbacks.refused == {(UUID, "one"): 1}, "the other only lags behind"


def test_each_time_is_counted_and_only_the_first_is_told() -> None:
    rollbacks = Rollbacks(100)
    for now in range(3):
        rollbacks.hear(UUID, {"one": "B"}, "B", now)
        rollbacks.hear(UUID, {"one": "A"}, "B", now + 0.5)
        assert rollbacks.refuse(UUID, {"one": "A"}, {"A"}) == ([] if now else ["A"])
    assert rollbacks.refused == {(UUID, "one"): 3}


def test_who_went_on_to_something_else_has_not_moved_back() -> None:
    rollbacks = Rollbacks(100)
    for head in "BCA":
        rollbacks.hear(UUID, {"one": head}, "B", 0)
    assert rollbacks.refuse(UUID, {"one": "A"}, {"A"}) == []
    assert rollbacks.refused == {}


def test_a_lone_head_is_meant_after_its_time() -> None:
    rollbacks = Rollbacks(100)
    assert not rollbacks.is_meant(UUID, "A", 1000)
    rollbacks.hear(UUID, {"one": "A", "two": "A"}, "B", 0)
    rollbacks.hear(UUID, {}, "B", 50)
    rollbacks.hear(UUID, {"two": "A"}, "B", 99)
    assert not rollbacks.is_meant(UUID, "A", 99)
    assert rollbacks.is_meant(UUID, "A", 100)
    assert not rollbacks.is_meant(UUID, "C", 100)
    rollbacks.hear(UUID, {"one": "B", "two": "A"}, "B", 101)
    assert not rollbacks.is_meant(UUID, "A", 300)
    rollbacks.hear(UUID, {"one": "A", "two": "A"}, "B", 301)
    assert not rollbacks.is_meant(UUID, "A", 400)
    assert rollbacks.is_meant(UUID, "A", 401)


HEARD = st.lists(st.dictionaries(st.sampled_from(["one", "two", "three"]), st.sampled_from("AB")))


@given(HEARD)
def test_what_is_meant_was_offered_by_all_that_were_heard_for_all_the_time(heard: list[dict[str, str]]) -> None:
    rollbacks = Rollbacks(3)
    for now, offers in enumerate(heard):
        rollbacks.hear(UUID, offers, "B", now)
        lately = [set(earlier.values()) for earlier in heard[max(now - 3, 0) : now + 1]]
        if rollbacks.is_meant(UUID, "A", now):
            assert now >= 3
            assert all(heads <= {"A"} for heads in lately)
        elif now >= 3 and all(heads == {"A"} for heads in lately):
            raise AssertionError(heard)

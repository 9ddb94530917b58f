from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pkgserver_trio.refusals import MAX_REFUSALS, Refusals


class AnyError(Exception):
    pass


FIRST, SECOND = AnyError("first"), AnyError("second")


def test_a_refusal_is_recalled_until_its_time_is_over() -> None:
    refusals: Refusals[str, AnyError] = Refusals()
    refusals.add("key", FIRST, until=10.0)
    assert refusals.recall("key", now=9.9) is FIRST
    assert refusals.recall("key", now=10.0) is None
    assert refusals.recall("other", now=0.0) is None


def test_a_later_refusal_replaces_the_earlier_one() -> None:
    refusals: Refusals[str, AnyError] = Refusals()
    refusals.add("key", FIRST, until=10.0)
    refusals.add("key", SECOND, until=5.0)
    assert refusals.recall("key", now=4.0) is SECOND
    assert refusals.recall("key", now=5.0) is None


def test_of_too_many_the_longest_remembered_is_forgotten() -> None:
    refusals: Refusals[int, AnyError] = Refusals()
    for key in range(MAX_REFUSALS):
        refusals.add(key, FIRST, until=10.0)
    refusals.add(0, SECOND, until=10.0)  # there already: nothing has to go, and it is the newest now
    assert refusals.recall(1, now=0.0) is FIRST
    refusals.add(MAX_REFUSALS, FIRST, until=10.0)
    assert refusals.recall(0, now=0.0) is SECOND
    assert refusals.recall(1, now=0.0) is None
    assert refusals.recall(2, now=0.0) is FIRST


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 9))), st.sampled_from("abc"), st.floats(0, 9))
def test_what_is_recalled_is_the_last_that_was_added(added: list[tuple[str, float]], key: str, now: float) -> None:
    refusals: Refusals[str, AnyError] = Refusals()
    reasons = [(name, AnyError(), until) for name, until in added]
    for reason in reasons:
        refusals.add(*reason)
    expected = next(((reason, until) for name, reason, until in reversed(reasons) if name == key), None)
    assert refusals.recall(key, now) is (expected[0] if expected and now < expected[1] else None)

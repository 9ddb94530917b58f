from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pkgserver_trio.upstream.backoff import FORGIVEN_SECONDS, LONGEST_REST_SECONDS, Backoff


def rests(backoff: Backoff, failures: int) -> list[float]:
    """Fail so often, each time just when the rest is over; return how long the rests were."""
    now, lengths = 0.0, []
    for _ in range(failures):
        backoff.fail(now)
        lengths.append(max(backoff.rests_until - now, 0.0))
        now = max(now, backoff.rests_until)
        assert not backoff.is_resting(now)
    return lengths


def test_rests_begin_after_two_failures_and_double_up_to_a_minute() -> None:
    assert rests(Backoff(), 10) == [0, 0, 1, 2, 4, 8, 16, 32, 60, 60]


def test_a_server_rests_until_its_time_is_over() -> None:
    backoff = Backoff()
    for _ in range(3):
        backoff.fail(100.0)
    assert backoff.is_resting(100.9)
    assert not backoff.is_resting(101.0)


def test_one_success_forgives_everything() -> None:
    backoff = Backoff()
    rests(backoff, 9)
    backoff.succeed()
    assert not backoff.is_resting(0.0)
    assert rests(backoff, 3) == [0, 0, 1]


@given(st.integers(0, 5000))
def test_no_number_of_failures_makes_a_longer_rest(failures: int) -> None:
    backoff = Backoff()
    for _ in range(failures):
        backoff.fail(0.0)
    assert backoff.rests_until <= LONGEST_REST_SECONDS


def test_many_failures_of_one_outage_count_once() -> None:
    backoff = Backoff()
    for _ in range(64):
        backoff.fail(100.0)
    assert backoff.rests_until == 101.0


def test_failures_that_lie_far_apart_are_bad_luck() -> None:
    backoff = Backoff()
    for number in range(9):
        backoff.fail(number * (FORGIVEN_SECONDS + 1))
    assert rests(backoff, 1) == [0]

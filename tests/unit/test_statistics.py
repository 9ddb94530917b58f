from __future__ import annotations

from itertools import count
from math import inf
from typing import TYPE_CHECKING

import pytest

from pkgserver_trio.errors import AbsentError, BrokenError, CorruptError, SilentError
from pkgserver_trio.recent import Use
from pkgserver_trio.resource import Kind, Resource
from pkgserver_trio.statistics import TARGETS, Histogram, Outcome, ServerTally, Statistics, target_of

if TYPE_CHECKING:
    from pkgserver_trio.errors import UpstreamError

UUID = "0fed4e60-1c94-4bd5-8a0e-3d1ff1c0f2a7"
PACKAGE = Resource(Kind.PACKAGE, "a" * 40, UUID)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/", "/"),
        ("/meta", "/meta"),
        ("/meta/stats", "/meta"),
        ("/metadata", "<other>"),
        ("/registries", "/registries"),
        ("/registries.eager", "<other>"),
        ("/registries/", "<other>"),
        ("/metrics", "/metrics"),
        (f"/registry/{UUID}/{'a' * 40}", "/registry"),
        (f"/package/{UUID}/{'a' * 40}", "/package"),
        (f"/artifact/{'a' * 40}/name", "/artifact"),
        ("/artifact", "<other>"),
        ("/artifact\n/", "<other>"),
        ("/\n", "<other>"),
        ("", "<other>"),
        ("http://host/metrics", "<other>"),
        ("/robots.txt", "<other>"),
    ],
)
def test_requests_are_grouped_by_the_first_part_of_their_path(path: str, target: str) -> None:
    assert target_of(path) == target
    assert target in TARGETS


def test_a_histogram_counts_what_is_at_most_each_bound() -> None:
    histogram = Histogram((1, 10))
    for value in (0.5, 1, 2, 11):
        histogram.observe(value)
    assert histogram.buckets() == [(1, 2), (10, 3), (inf, 4)]
    assert histogram.sum == 14.5


def test_a_request_is_in_progress_and_then_timed_even_if_it_fails() -> None:
    ticks = count()
    statistics = Statistics(clock=lambda: next(ticks))
    seen: list[int] = []

    def fail() -> None:
        seen.append(statistics.requests_in_progress)
        raise KeyError

    with pytest.raises(KeyError), statistics.request("/meta/stats"):
        fail()
    assert seen == [1]
    assert statistics.requests_in_progress == 0
    assert statistics.durations["/meta"].sum == 1
    assert [target for target, timed in statistics.durations.items() if timed.sum] == ["/meta"]


def test_answers_are_counted_by_kind_and_outcome_and_only_those_with_the_resource_as_uses() -> None:
    statistics = Statistics()
    artifact = Resource(Kind.ARTIFACT, "b" * 40)
    for outcome in Outcome:
        statistics.count_answer(PACKAGE, outcome)
    statistics.count_answer(artifact, Outcome.FAILED)
    statistics.count_head(artifact)
    assert statistics.answers[Kind.PACKAGE, Outcome.MISS] == 1
    assert statistics.total(Outcome.FAILED, Outcome.ABSENT) == 3
    assert statistics.heads == {Kind.ARTIFACT: 1}
    assert list(statistics.recent) == [Use(PACKAGE.pack(), 0, 3)]


def test_a_hit_of_nginx_is_a_hit_whose_bytes_are_counted_apart() -> None:
    statistics = Statistics()
    statistics.count_nginx_hit(PACKAGE, 500)
    statistics.count_transmitted(7)
    assert statistics.answers == {(Kind.PACKAGE, Outcome.HIT): 1}
    assert (statistics.nginx_transmitted_bytes, statistics.transmitted_bytes) == (500, 7)
    assert list(statistics.recent) == [Use(PACKAGE.pack(), 0, 1)]


@pytest.mark.parametrize(
    ("failure", "counts"),
    [
        (AbsentError("s", ""), (0, 0, 0)),
        (SilentError("s", ""), (1, 0, 0)),
        (BrokenError("s", ""), (0, 1, 0)),
        (CorruptError("s", ""), (0, 0, 1)),
    ],
)
def test_failures_of_a_storage_server_are_counted_by_what_they_were(
    failure: UpstreamError, counts: tuple[int, int, int]
) -> None:
    tally = ServerTally()
    tally.fail(failure)
    assert (tally.silent, tally.broken, tally.corrupt) == counts

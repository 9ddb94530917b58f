"""The soak's own account: that it can fail, and at what."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest
from tests.soak.asks import Ask, Span
from tests.soak.catalogue import REGISTRIES, Catalogue, build_catalogue
from tests.soak.judge import Answer, Judge
from tests.soak.ledger import MEMORY_ALLOWANCE_BYTES, Ledger, Outcome, Vitals
from tests.soak.operators import OperatorPlanner
from tests.unit.tarballs import hashes_of

if TYPE_CHECKING:
    from collections.abc import Mapping

RESTED = Vitals(fds=12, upstream=9, threads=3, children=0, connections=0, unfinished=0, rss_bytes=80 << 20)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return build_catalogue("seed", states=4)


@pytest.fixture
def ledger(catalogue: Catalogue) -> Ledger:
    return Ledger(Judge(catalogue))


def part(body: bytes, start: int, stop: int, wrong: bytes | None = None) -> Answer:
    headers = {"content-range": f"bytes {start}-{stop - 1}/{len(body)}"}
    return Answer(206, headers, body[start:stop] if wrong is None else wrong)


def flipped(body: bytes) -> bytes:
    return body[:-1] + bytes([body[-1] ^ 1])


def listed(catalogue: Catalogue, *states: int) -> Answer:
    heads = (catalogue.heads[uuid][state].path for uuid, state in zip(sorted(REGISTRIES), states, strict=True))
    return Answer(200, {}, "".join(f"{head}\n" for head in heads).encode())


def test_bodies_of_one_tree_differ_and_have_its_hash(catalogue: Catalogue) -> None:
    for tarball in (*catalogue.tarballs[:20], *catalogue.heads[REGISTRIES[0]]):
        one, other, packed = tarball.bodies
        assert one != other
        assert len(one) == len(other) != len(packed)
        for body in tarball.bodies:
            assert hashes_of(body).include(tarball.path.rpartition("/")[2])


def test_same_seed_makes_the_same_catalogue(catalogue: Catalogue) -> None:
    assert build_catalogue("seed", states=4) == catalogue
    assert build_catalogue("other", states=4).tarballs[0] != catalogue.tarballs[0]


def test_any_honest_body_is_right(ledger: Ledger, catalogue: Catalogue) -> None:
    tarball = catalogue.tarballs[0]
    for body in tarball.bodies:
        assert ledger.note(Ask(path=tarball.path), Answer(200, {}, body)) is Outcome.RIGHT
    assert ledger.passed
    assert (ledger.requests, ledger.received_bytes) == (3, sum(map(len, tarball.bodies)))


def test_complete_answer_with_one_wrong_bit_fails_the_soak(ledger: Ledger, catalogue: Catalogue) -> None:
    tarball = catalogue.tarballs[0]
    body = tarball.bodies[0]
    assert ledger.note(Ask(path=tarball.path), Answer(200, {}, flipped(body))) is Outcome.WRONG
    assert not ledger.passed
    assert tarball.path in ledger.wrong[0]
    assert f"part at {len(body) - 1} " in ledger.wrong[0]


@pytest.mark.parametrize("cut", [0, 1, -1])
def test_complete_answer_of_another_length_is_wrong(ledger: Ledger, catalogue: Catalogue, cut: int) -> None:
    tarball = catalogue.tarballs[0]
    body = tarball.bodies[0][:cut] if cut < 1 else tarball.bodies[0] + bytes(cut)
    assert ledger.note(Ask(path=tarball.path), Answer(200, {}, body)) is Outcome.WRONG


def test_wrong_bytes_of_a_broken_answer_are_only_broken(ledger: Ledger, catalogue: Catalogue) -> None:
    ask, answer = Ask(path=catalogue.tarballs[0].path), Answer(200, {}, b"rubbish", complete=False)
    assert ledger.note(ask, answer) is Outcome.BROKEN
    assert ledger.note(ask, answer, left=True) is Outcome.LEFT
    assert ledger.note(ask, None) is Outcome.BROKEN
    assert ledger.passed


@pytest.mark.parametrize("span", [Span(3, 9), Span(3, None), Span(None, 5), Span(0, 10**9)], ids=str)
def test_range_is_compared_with_the_slice_that_was_asked_for(ledger: Ledger, catalogue: Catalogue, span: Span) -> None:
    tarball = catalogue.tarballs[0]
    body = tarball.bodies[1]
    start, stop = {Span(3, 9): (3, 10), Span(3, None): (3, len(body)), Span(None, 5): (len(body) - 5, len(body))}.get(
        span, (0, len(body))
    )
    ask = Ask(path=tarball.path, span=span, expected=frozenset({206}))
    assert ledger.note(ask, part(body, start, stop)) is Outcome.RIGHT
    assert ledger.note(ask, part(body, start, stop, flipped(body[start:stop]))) is Outcome.WRONG
    assert ledger.note(ask, part(body, start + 1, stop)) is Outcome.WRONG
    assert ledger.note(ask, Answer(200, {}, body)) is Outcome.WRONG


def test_rest_of_another_tarball_is_wrong_after_a_prefix_of_this(ledger: Ledger, catalogue: Catalogue) -> None:
    tarball = catalogue.tarballs[0]
    one, other, _ = tarball.bodies
    size, cut = len(one), len(one) // 2
    ask = Ask(path=tarball.path, span=Span(cut, None), prefix=one[:cut], expected=frozenset({200, 206}))
    assert ledger.note(ask, part(one, cut, size)) is Outcome.RIGHT
    assert ledger.note(ask, Answer(200, {}, other)) is Outcome.RIGHT
    assert ledger.note(replace(ask, prefix=other[:cut]), part(one, cut, size)) is Outcome.WRONG


@pytest.mark.parametrize("status", [404, 500, 304, 206])
def test_status_that_was_not_to_be_expected_is_wrong(ledger: Ledger, catalogue: Catalogue, status: int) -> None:
    ask = Ask(path=catalogue.tarballs[0].path)
    assert ledger.note(ask, Answer(status, {}, b"")) is Outcome.WRONG
    assert ledger.note(ask, Answer(502, {}, b"")) is Outcome.REFUSED
    assert len(ledger.wrong) == 1


@pytest.mark.parametrize(
    ("status", "headers", "outcome"),
    [
        (416, {}, Outcome.WRONG),
        (416, {"content-range": "bytes */1"}, Outcome.WRONG),
        (200, {"etag": "t", "content-length": "1"}, Outcome.WRONG),
        (200, {"etag": "t", "content-length": "1", "x-cache-miss": "miss"}, Outcome.RIGHT),
    ],
)
def test_sizes_are_those_of_honest_tarballs(
    ledger: Ledger, catalogue: Catalogue, status: int, headers: Mapping[str, str], outcome: Outcome
) -> None:
    ask = Ask(path=catalogue.tarballs[0].path, method="HEAD", expected=frozenset({status}))
    if status == 416:
        ask = replace(ask, method="GET")
    assert ledger.note(ask, Answer(status, headers, b"")) is outcome


def test_artifact_toml_names_the_sum_of_some_honest_tarball(ledger: Ledger, catalogue: Catalogue) -> None:
    artifacts = [tarball for tarball in catalogue.tarballs if tarball.path.startswith("/artifact/")]
    one, other = artifacts[:2]
    ask, text = Ask(path=f"{one.path}/Soak"), 'git-tree-sha1 = "{}"\nsha256 = "{}"\n'
    name = one.path.rpartition("/")[2]
    for digest in one.sha256s:
        assert ledger.note(ask, Answer(200, {}, text.format(name, digest).encode())) is Outcome.RIGHT
    for digest in other.sha256s:
        assert ledger.note(ask, Answer(200, {}, text.format(name, digest).encode())) is Outcome.WRONG


def test_list_of_registries_must_not_go_back(ledger: Ledger, catalogue: Catalogue) -> None:
    ask = Ask(path="/registries.eager")
    assert ledger.note(ask, Answer(503, {}, b"")) is Outcome.REFUSED
    assert ledger.note(ask, listed(catalogue, 1, 2)) is Outcome.RIGHT
    floor = ledger.judge.newest(ask.path)
    assert ledger.note(ask, listed(catalogue, 2, 2), floor=floor) is Outcome.RIGHT
    assert ledger.note(ask, listed(catalogue, 1, 2), floor=floor) is Outcome.RIGHT  # asked before the newer one came
    assert ledger.note(ask, listed(catalogue, 2, 1), floor=floor) is Outcome.WRONG
    assert ledger.note(ask, Answer(503, {}, b""), floor=floor) is Outcome.WRONG
    assert ledger.note(ask, listed(catalogue, 1, 2), floor=ledger.judge.newest(ask.path)) is Outcome.WRONG


@pytest.mark.parametrize("body", [b"", b"<!DOCTYPE html>", b"/registry/no/head\n"])
def test_what_is_no_list_of_registries_is_wrong(ledger: Ledger, body: bytes) -> None:
    assert ledger.note(Ask(path="/registries.eager"), Answer(200, {}, body)) is Outcome.WRONG


@pytest.mark.parametrize("name", ["fds", "threads", "children", "connections", "unfinished"])
def test_anything_that_grew_by_one_fails_the_soak(ledger: Ledger, name: str) -> None:
    ledger.compare(RESTED, replace(RESTED, upstream=20, rss_bytes=RESTED.rss_bytes + MEMORY_ALLOWANCE_BYTES))
    assert ledger.passed
    ledger.compare(RESTED, replace(RESTED, **{name: getattr(RESTED, name) + 1}))
    assert ledger.defects == [f"{name} grew by 1"]
    assert not ledger.passed


def test_memory_beyond_its_allowance_fails_the_soak(ledger: Ledger) -> None:
    grown = replace(RESTED, rss_bytes=RESTED.rss_bytes + MEMORY_ALLOWANCE_BYTES + 1)
    assert "growth of memory   1 " in ledger.compare(RESTED, grown)[-1]
    assert not ledger.passed


def test_lost_resource_fails_the_soak(ledger: Ledger) -> None:
    ledger.lost.append("/artifact/1")
    assert not ledger.passed
    assert "resources lost     1" in ledger.report()


METRICS = b"# HELP pkgserver_x\npkgserver_x 1\n"


@pytest.mark.parametrize(
    ("path", "answer", "expected"),
    [
        ("/metrics", Answer(200, {}, METRICS), Outcome.RIGHT),
        ("/metrics", Answer(200, {}, b"<html>"), Outcome.WRONG),
        ("/metrics", Answer(500, {}, METRICS), Outcome.WRONG),
        ("/meta/stats", Answer(200, {"content-type": "application/json"}, b"{}"), Outcome.RIGHT),
        ("/meta/stats", Answer(200, {"content-type": "application/json"}, b'{"a": '), Outcome.WRONG),
        ("/admin/flights", Answer(200, {"content-type": "text/plain"}, b"lines"), Outcome.RIGHT),
    ],
)
def test_pages_for_operators_are_judged_too(ledger: Ledger, path: str, answer: Answer, expected: Outcome) -> None:
    assert ledger.note(Ask(path=path), answer) is expected


def test_operators_ask_for_all_there_is_to_ask_for(catalogue: Catalogue) -> None:
    planner = OperatorPlanner(Random("seed"), catalogue, lambda: catalogue.tarballs)
    asks = [planner.next_ask() for _ in range(500)]
    asked = {
        (ask.method, ask.path.partition("?")[0]) for ask in asks if ask.path.count("/") < 5 and ask.method != "DELETE"
    }
    assert asked == {
        ("POST", "/admin/cache/verify"),
        ("GET", "/admin/cache/verify"),
        ("GET", "/admin/flights"),
        ("GET", "/admin/logs"),
        ("GET", "/metrics"),
        ("GET", "/meta/stats"),
    }
    removed = {ask.path.removeprefix("/admin/cache") for ask in asks if ask.method == "DELETE"}
    assert len(removed) > 20
    assert removed <= set(catalogue.by_path)
    assert all(planner.next_conduct().leaves_after for _ in range(20))

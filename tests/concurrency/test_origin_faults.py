"""Origins that fail, limit or lie: nothing is refused by who cannot see, and nobody is hammered."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
import trio
from tests.fakes import Behaviour, FakeNetwork, FakeTransport, Pieces, Request, redirect, refusing_url
from tests.origin_fakes import (
    MISSING_HASH,
    OTHER,
    PROJECT,
    UUID,
    FakeForge,
    commit,
    each_forge,
    history,
    opened,
    outcome,
)

from pkgserver_trio.registries.origin_api import MAX_ANSWER_BYTES
from pkgserver_trio.registries.origin_check import Outcome, open_origins
from pkgserver_trio.registries.origins import Forge
from pkgserver_trio.settings import Settings

if TYPE_CHECKING:
    from trio.testing import MockClock

RESET = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1750000900", "date": "Sun, 15 Jun 2025 15:06:40 GMT"}

FAILURES = [
    (Behaviour(connect="refuse"), "cannot be reached at api.github.com: refused", 0),
    (Behaviour(connect="hang"), "gave no whole answer: ConnectTimeout", 5),
    (Behaviour(never_answer=True), "gave no whole answer: ReadTimeout", 5),
    (Behaviour(body=b"[" * 99, pieces=Pieces(1, pause=4)), "did not answer within 15 seconds", 15),
    (Behaviour(reset_at=-1), "gave no whole answer: ReadError", 0),
    (Behaviour(body=b"[]", close_at=1), "gave no whole answer: RemoteProtocolError", 0),
    (Behaviour(body=b"<html>down for maintenance</html>"), "its answer is no list of commits", 0),
    (Behaviour(body=b"[]"), "lists no commits", 0),
    (Behaviour(body=b" " * (MAX_ANSWER_BYTES + 1)), f"answers with more than {MAX_ANSWER_BYTES} bytes", 0),
    (Behaviour(status=500), "answers with status 500", 0),
    (Behaviour(status=304), "answers with status 304", 0),
    (Behaviour(status=409), "answers with status 409", 0),
    (redirect("http://api.github.com/x"), "gave no whole answer: RemoteProtocolError", 0),
    (redirect("https://elsewhere.invalid/x"), "redirects to another host", 0),
    (redirect("https://api.github.com:444/x"), "redirects to another host", 0),
    (redirect("https://[/"), "redirects to another host", 0),
    *[
        (
            Behaviour(status=status),
            f"answers with status {status}: the project does not exist, or a token may be missing",
            0,
        )
        for status in (401, 403, 404)
    ],
]


@pytest.mark.parametrize(("behaviour", "reason", "seconds"), FAILURES)
async def test_an_origin_that_fails_refuses_nothing_and_has_a_bounded_time(
    autojump_clock: MockClock, behaviour: Behaviour, reason: str, seconds: float
) -> None:
    host = FakeForge(Forge.GITHUB, history(2), overrides=[behaviour])
    async with opened(host) as (origins, _):
        verdict = await origins.check(UUID, commit(2).tree_hash)
        assert (verdict.outcome, verdict.reason) == (Outcome.UNKNOWN, f"github.com {reason}")
        assert trio.current_time() == pytest.approx(seconds)
        await trio.sleep_until(verdict.ask_again_at)
        assert await outcome(origins, commit(2).tree_hash) is not Outcome.REFUSED
        await trio.sleep(60)
        assert await outcome(origins, commit(2).tree_hash) is Outcome.CONFIRMED


async def test_an_origin_that_stays_away_is_asked_ever_more_rarely(autojump_clock: MockClock) -> None:
    host = FakeForge(Forge.GITHUB, history(1), overrides=[Behaviour(connect="refuse")] * 1000)
    async with opened(host) as (origins, transport):
        for _ in range(600):
            assert await outcome(origins, commit(1).tree_hash) is Outcome.UNKNOWN
            await trio.sleep(1)
        times = [request.time for request in transport.seen]
        assert len(times) < 20
        assert min(later - earlier for earlier, later in itertools.pairwise(times)) >= 5
        host.overrides.clear()
        await trio.sleep(60)
        assert await outcome(origins, commit(1).tree_hash) is Outcome.CONFIRMED


@each_forge
async def test_a_search_that_breaks_off_refuses_nothing_and_goes_on_later(
    autojump_clock: MockClock, forge: Forge
) -> None:
    class Breaking(FakeForge):
        def __call__(self, request: Request) -> Behaviour:
            fails = len(answered) == 1
            answered.append(request.path)
            return Behaviour(reset_at=-1) if fails else super().__call__(request)

    answered: list[str] = []
    commits = history(300)
    place = 1 if forge is Forge.GITLAB else 299
    async with opened(Breaking(forge, commits)) as (origins, _):
        assert await outcome(origins, commits[place].tree_hash) is Outcome.UNKNOWN
        await trio.sleep(5)
        assert await outcome(origins, commits[place].tree_hash) is Outcome.CONFIRMED


async def test_a_search_has_a_bounded_time_and_keeps_what_it_found(autojump_clock: MockClock) -> None:
    class Slow(FakeForge):
        def __call__(self, request: Request) -> Behaviour:
            answer = super().__call__(request)
            return Behaviour(body=answer.body, delay_before_head=4, etag=answer.etag)

    commits = history(50)
    async with opened(Slow(Forge.GITLAB, commits)) as (origins, _):
        for _ in range(3):
            began = trio.current_time()
            verdict = await origins.check(UUID, commits[49].tree_hash)
            assert verdict.outcome is Outcome.UNKNOWN
            assert verdict.reason == "gitlab.com took more than 60 seconds; the search goes on where it was"
            assert trio.current_time() - began == pytest.approx(60)
            await trio.sleep_until(verdict.ask_again_at)
        assert await outcome(origins, commits[49].tree_hash) is Outcome.CONFIRMED


async def test_a_check_that_is_cancelled_leaves_the_next_one_whole(autojump_clock: MockClock) -> None:
    host = FakeForge(Forge.GITHUB, history(1), overrides=[Behaviour(never_answer=True)])
    async with opened(host) as (origins, _):
        with trio.move_on_after(1):
            await origins.check(UUID, commit(1).tree_hash)
        assert await outcome(origins, commit(1).tree_hash) is Outcome.UNKNOWN  # one was asked just now
        await trio.sleep(5)
        assert await outcome(origins, commit(1).tree_hash) is Outcome.CONFIRMED


@pytest.mark.parametrize(
    ("behaviour", "until"),
    [
        (Behaviour(status=403, headers=RESET), 901),
        (Behaviour(status=429, headers={"retry-after": "120"}), 120),
        (Behaviour(status=429), 60),
    ],
)
async def test_while_an_origin_limits_us_it_is_not_asked(
    autojump_clock: MockClock, behaviour: Behaviour, until: float
) -> None:
    host = FakeForge(Forge.GITHUB, history(1), overrides=[behaviour])
    async with opened(host) as (origins, transport):
        while trio.current_time() < until:
            verdict = await origins.check(UUID, commit(1).tree_hash)
            assert verdict.outcome is Outcome.UNKNOWN
            assert verdict.reason == "github.com limits how often it is asked"
            assert verdict.ask_again_at == until
            assert len(transport.seen) == 1
            await trio.sleep(10)
        assert await outcome(origins, commit(1).tree_hash) is Outcome.CONFIRMED


async def test_a_limit_is_for_all_projects_of_a_host(autojump_clock: MockClock) -> None:
    host = FakeForge(Forge.GITHUB, history(1), overrides=[Behaviour(status=429)])
    registries = f"{UUID}=https://github.com/{PROJECT},{OTHER}=https://github.com/other/Other"
    async with opened(host, PKGSERVER_REGISTRIES=registries) as (origins, transport):
        assert await outcome(origins, commit(1).tree_hash) is Outcome.UNKNOWN
        verdict = await origins.check(OTHER, commit(1).tree_hash)
    assert (verdict.reason, verdict.ask_again_at) == ("github.com limits how often it is asked", 60)
    assert len(transport.seen) == 1


async def test_the_last_answer_before_a_limit_counts_and_is_the_last_question(autojump_clock: MockClock) -> None:
    host = FakeForge(Forge.GITHUB, history(150), headers=RESET)
    async with opened(host) as (origins, transport):
        assert await outcome(origins, commit(150).tree_hash) is Outcome.CONFIRMED
        assert await outcome(origins, commit(51).tree_hash) is Outcome.CONFIRMED
        await trio.sleep(5)
        verdict = await origins.check(UUID, commit(50).tree_hash)
        assert (verdict.outcome, verdict.ask_again_at) == (Outcome.UNKNOWN, 901)
    assert len(transport.seen) == 1


async def test_redirects_within_a_host_are_followed_a_few_times_only(autojump_clock: MockClock) -> None:
    transport = FakeTransport(script=lambda _: redirect("/again"))
    async with open_origins(Settings.from_mapping({}), transport=FakeNetwork({"api.github.com": transport})) as origins:
        verdict = await origins.check(UUID, MISSING_HASH)
    assert verdict.reason == "github.com redirects more than 5 times"
    assert len(transport.seen) == 6


async def test_a_link_to_another_host_is_not_followed(autojump_clock: MockClock) -> None:
    commits = history(150)
    async with opened(FakeForge(Forge.GITHUB, commits)) as (origins, transport):  # whose links all lead elsewhere
        assert await outcome(origins, commits[120].tree_hash) is Outcome.CONFIRMED
    assert [request.path.partition("?")[0] for request in transport.seen] == [f"/repos/{PROJECT}/commits"] * 2


async def test_an_origin_that_refuses_connections_is_unreachable_and_says_how() -> None:
    with refusing_url() as url:
        settings = Settings.from_mapping({"PKGSERVER_REGISTRIES": f"{UUID}=gitlab+{url}/{PROJECT}"})
        async with open_origins(settings) as origins:
            verdict = await origins.check(UUID, MISSING_HASH)
    assert verdict.outcome is Outcome.UNKNOWN
    assert "cannot be reached" in verdict.reason

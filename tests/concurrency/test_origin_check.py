"""The origin check against each host's API: what is confirmed, what is refused, and what it costs to know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from tests.fakes import FakeNetwork, FakeTransport
from tests.origin_fakes import (
    MISSING_HASH,
    OTHER,
    PROJECT,
    UUID,
    WEB,
    FakeCommit,
    FakeForge,
    commit,
    each_forge,
    history,
    opened,
    outcome,
)
from tests.unit.trees import File

from pkgserver_trio.registries.origin_check import OriginVerdict, Outcome, open_origins
from pkgserver_trio.registries.origins import Forge
from pkgserver_trio.settings import Settings

if TYPE_CHECKING:
    from trio.testing import MockClock


def paths(transport: FakeTransport) -> list[str]:
    return [request.path for request in transport.seen]


@each_forge
@pytest.mark.parametrize("place", [0, 1, 39])
async def test_the_tree_of_a_recent_commit_is_confirmed(forge: Forge, place: int) -> None:
    commits = history(40)
    async with opened(FakeForge(forge, commits)) as (origins, _):
        assert await origins.check(UUID, commits[place].tree_hash) == OriginVerdict(Outcome.CONFIRMED)


@each_forge
async def test_a_hash_that_is_no_commits_tree_is_refused_with_a_reason(forge: Forge) -> None:
    async with opened(FakeForge(forge, history(3))) as (origins, _):
        verdict = await origins.check(UUID, MISSING_HASH)
        assert await outcome(origins, commit(1).id) is Outcome.UNKNOWN  # too soon to look again
    assert verdict.outcome is Outcome.REFUSED
    assert verdict.reason == f"not among the newest {forge.recent_commits} commits of {WEB[forge]}/{PROJECT}"


@each_forge
async def test_what_only_a_fork_has_is_refused_though_it_can_be_resolved(forge: Forge) -> None:
    forked = commit(99)
    host = FakeForge(forge, history(3), elsewhere=[forked])
    async with opened(host) as (origins, transport):
        assert await outcome(origins, forked.tree_hash) is Outcome.REFUSED
    assert all("/commits?" in path or "/tree?ref=" in path for path in paths(transport))


@pytest.mark.parametrize(
    ("forge", "place", "requests"),
    [
        (Forge.GITHUB, 99, 1),
        (Forge.GITHUB, 100, 2),
        (Forge.GITHUB, 299, 3),
        (Forge.GITEA, 49, 1),
        (Forge.GITEA, 299, 6),
    ],
)
async def test_older_pages_are_fetched_only_while_the_hash_is_not_found(
    forge: Forge, place: int, requests: int
) -> None:
    commits = history(350)
    async with opened(FakeForge(forge, commits)) as (origins, transport):
        assert await outcome(origins, commits[place].tree_hash) is Outcome.CONFIRMED
    assert len(transport.seen) == requests


@pytest.mark.parametrize(("forge", "requests"), [(Forge.GITHUB, 3), (Forge.GITLAB, 51), (Forge.GITEA, 6)])
async def test_an_old_commit_is_refused_after_a_bounded_search(forge: Forge, requests: int) -> None:
    commits = history(350)
    async with opened(FakeForge(forge, commits)) as (origins, transport):
        assert await outcome(origins, commits[300].tree_hash) is Outcome.REFUSED
    assert len(transport.seen) == requests


async def test_gitlab_trees_are_fetched_newest_first_and_once(autojump_clock: MockClock) -> None:
    host = FakeForge(Forge.GITLAB, history(10))
    async with opened(host) as (origins, transport):
        assert await outcome(origins, commit(8).tree_hash) is Outcome.CONFIRMED
        trees = [path.partition("ref=")[2][:40] for path in paths(transport)[1:]]
        assert trees == [commit(number).id for number in (10, 9, 8)]
        host.commits = history(11)
        await trio.sleep(5)
        assert await outcome(origins, commit(7).tree_hash) is Outcome.CONFIRMED
    trees = [path.partition("ref=")[2][:40] for path in paths(transport)[5:]]
    assert trees == [commit(number).id for number in (11, 7)]


async def test_a_gitlab_tree_may_take_several_pages_but_not_any_number(autojump_clock: MockClock) -> None:
    large = FakeCommit("a" * 40, {f"{number:03}": File(b"") for number in range(41)})
    host = FakeForge(Forge.GITLAB, [large], tree_page=5)
    async with opened(host) as (origins, transport):
        assert await outcome(origins, large.tree_hash) is Outcome.CONFIRMED
        assert len(transport.seen) == 10
    host.tree_page = 4
    async with opened(host) as (origins, _):
        verdict = await origins.check(UUID, large.tree_hash)
    assert (verdict.outcome, verdict.reason) == (Outcome.UNKNOWN, "gitlab.com lists a tree of more than 10 pages")


@each_forge
async def test_a_confirmed_hash_stays_so_and_costs_nothing(autojump_clock: MockClock, forge: Forge) -> None:
    host = FakeForge(forge, history(2))
    async with opened(host) as (origins, transport):
        assert await outcome(origins, commit(2).tree_hash) is Outcome.CONFIRMED
        asked = len(transport.seen)
        host.commits = [commit(9)]  # the branch was rewritten
        await trio.sleep(3600)
        assert await outcome(origins, MISSING_HASH) is Outcome.REFUSED
        asked_again = len(transport.seen)
        assert await outcome(origins, commit(2).tree_hash) is Outcome.CONFIRMED
    assert asked < asked_again == len(transport.seen)


async def test_one_listing_serves_all_that_it_holds() -> None:
    async with opened(FakeForge(Forge.GITHUB, history(100))) as (origins, transport):
        for number in range(1, 101):
            assert await outcome(origins, commit(number).tree_hash) is Outcome.CONFIRMED
    assert len(transport.seen) == 1


@each_forge
async def test_concurrent_checks_share_one_search(forge: Forge) -> None:
    outcomes: list[Outcome] = []
    async with opened(FakeForge(forge, history(3))) as (origins, transport):

        async def ask(tree_hash: str) -> None:
            outcomes.append(await outcome(origins, tree_hash))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(ask, commit(3).tree_hash)
                nursery.start_soon(ask, MISSING_HASH)
    assert outcomes.count(Outcome.CONFIRMED) == 10
    assert sum("/commits?" in path for path in paths(transport)) == 1


async def test_a_refused_hash_is_looked_for_again_ever_more_rarely_and_found_when_it_is_there(
    autojump_clock: MockClock,
) -> None:
    host = FakeForge(Forge.GITHUB, history(3))
    times: list[float] = []
    async with opened(host) as (origins, transport):
        for _ in range(100):
            verdict = await origins.check(UUID, commit(4).tree_hash)
            assert verdict.outcome is Outcome.REFUSED
            times.append(verdict.ask_again_at)
            await trio.sleep(1)
        assert sorted(set(times)) == [10, 30, 70, 150]
        assert len(transport.seen) == 4
        host.commits = history(4)
        await trio.sleep_until(150)
        assert await outcome(origins, commit(4).tree_hash) is Outcome.CONFIRMED


async def test_a_second_search_begins_seconds_after_the_first_at_the_earliest(autojump_clock: MockClock) -> None:
    host = FakeForge(Forge.GITHUB, history(1))
    async with opened(host) as (origins, transport):
        assert await outcome(origins, commit(1).tree_hash) is Outcome.CONFIRMED
        host.commits = history(2)
        verdict = await origins.check(UUID, commit(2).tree_hash)
        assert verdict == OriginVerdict(Outcome.UNKNOWN, "github.com was asked a moment ago", 5)
        assert len(transport.seen) == 1
        await trio.sleep_until(verdict.ask_again_at)
        assert await outcome(origins, commit(2).tree_hash) is Outcome.CONFIRMED


@each_forge
@pytest.mark.parametrize("etags", [True, False])
async def test_an_unchanged_branch_is_asked_for_by_its_validator_and_older_pages_not_again(
    autojump_clock: MockClock,
    forge: Forge,
    etags: bool,  # noqa: FBT001 # a table
) -> None:
    async with opened(FakeForge(forge, history(350), etags=etags)) as (origins, transport):
        assert await outcome(origins, MISSING_HASH) is Outcome.REFUSED
        before = len(transport.seen)
        await trio.sleep(10)
        assert await outcome(origins, MISSING_HASH) is Outcome.REFUSED
    assert len(transport.seen) == before + 1
    assert ("if-none-match" in transport.seen[-1].headers) is etags


async def test_new_commits_on_top_leave_the_older_ones_known(autojump_clock: MockClock) -> None:
    host = FakeForge(Forge.GITHUB, history(250))
    async with opened(host) as (origins, transport):
        assert await outcome(origins, commit(60).tree_hash) is Outcome.CONFIRMED
        host.commits = history(300)
        await trio.sleep(5)
        assert await outcome(origins, commit(300).tree_hash) is Outcome.CONFIRMED
        assert await outcome(origins, commit(51).tree_hash) is Outcome.CONFIRMED
        assert len(transport.seen) == 3
        await trio.sleep(5)
        assert await outcome(origins, commit(1).tree_hash) is Outcome.CONFIRMED
    assert len(transport.seen) == 5  # page one is unchanged, page three was not needed yet


async def test_no_answers_are_kept_of_a_branch_that_was_rewritten(autojump_clock: MockClock) -> None:
    host = FakeForge(Forge.GITHUB, history(3))
    async with opened(host) as (origins, _):
        assert await outcome(origins, commit(3).tree_hash) is Outcome.CONFIRMED
        host.commits = [commit(9), commit(8)]
        await trio.sleep(5)
        assert await outcome(origins, MISSING_HASH) is Outcome.REFUSED
        assert await outcome(origins, commit(3).tree_hash) is Outcome.CONFIRMED  # it once was
        await trio.sleep(5)
        assert await outcome(origins, commit(2).tree_hash) is Outcome.REFUSED


async def test_what_is_remembered_is_bounded(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pkgserver_trio.registries.default_branch.MAX_REMEMBERED", 2)
    host = FakeForge(Forge.GITHUB, history(3))
    async with opened(host) as (origins, _):
        for number in (1, 2, 3):
            assert await outcome(origins, commit(number).tree_hash) is Outcome.CONFIRMED
        host.commits = [commit(9)]
        await trio.sleep(5)
        assert await outcome(origins, MISSING_HASH) is Outcome.REFUSED
        await trio.sleep(5)
        assert await outcome(origins, commit(1).tree_hash) is Outcome.REFUSED
        assert await outcome(origins, commit(3).tree_hash) is Outcome.CONFIRMED


async def test_registries_at_one_host_are_searched_each_on_its_own() -> None:
    general, other = FakeForge(Forge.GITHUB, history(2)), FakeForge(Forge.GITHUB, [commit(7)], project="other/Other")
    registries = f"{UUID}=https://github.com/{PROJECT},{OTHER}=https://github.com/other/Other.git"
    transport = FakeTransport(script=lambda request: (general if PROJECT in request.path else other)(request))
    settings = Settings.from_mapping({"PKGSERVER_REGISTRIES": registries})
    async with open_origins(settings, transport=FakeNetwork({"api.github.com": transport})) as origins:
        assert (await origins.check(OTHER, commit(7).tree_hash)).outcome is Outcome.CONFIRMED
        assert (await origins.check(UUID, commit(7).tree_hash)).outcome is Outcome.REFUSED
        assert (await origins.check(UUID, commit(2).tree_hash)).outcome is Outcome.CONFIRMED


@pytest.mark.parametrize(
    "texts",
    [
        {"PKGSERVER_ORIGIN_CHECK": "off"},
        {"PKGSERVER_REGISTRIES": "*"},
        {"PKGSERVER_REGISTRIES": UUID},
        {"PKGSERVER_REGISTRIES": f"{UUID}=https://git.example.org/{PROJECT}"},
    ],
)
async def test_what_has_no_origin_to_ask_is_unchecked_and_asks_nobody(texts: dict[str, str]) -> None:
    async with open_origins(Settings.from_mapping(texts), transport=FakeNetwork({})) as origins:
        assert await origins.check(UUID, MISSING_HASH) == OriginVerdict(Outcome.UNCHECKED)

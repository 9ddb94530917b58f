"""The registries: polled from each server on its own, decided together, published once held."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio
from structlog.testing import capture_logs
from tests.fakes import MISSING, Behaviour, FakeTransport, good
from tests.lofts import Tarball, open_loft, open_servers, registry_of

from pkgserver_trio.errors import UpstreamFailedError
from pkgserver_trio.registries.ledger import Ledger
from pkgserver_trio.registries.origin_check import Origins, OriginVerdict, Outcome
from pkgserver_trio.registries.publication import Following
from pkgserver_trio.registries.registries import Registries
from pkgserver_trio.settings import AllRegistries, RegistryChoice
from pkgserver_trio.storage.disk import Disk
from pkgserver_trio.web.readiness import readiness

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
    from pathlib import Path

    from trio.testing import MockClock

    from pkgserver_trio.resource import Resource

GENERAL = "23338594-aafe-5451-b93e-139f81909106"
LOCAL = "00000000-0000-4000-8000-000000000001"
#: The time of day when Trio's clock begins.
START = 1_780_000_000.0
OLD, NEW, NEWER = (registry_of(GENERAL, seed) for seed in ("old", "new", "newer"))
MINE = registry_of(LOCAL, "mine")
EAGER, CONSERVATIVE = "/registries.eager", "/registries.conservative"
ONLY_GENERAL = (RegistryChoice(GENERAL, None),)


def listing(*states: Tarball) -> bytes:
    return "".join(f"{state.path}\n" for state in sorted(states, key=lambda state: state.path)).encode()


def server(*states: Tarball, knows: tuple[Tarball, ...] = ()) -> FakeTransport:
    """A storage server that lists these heads in both flavors and also has older ones."""
    files = {EAGER: listing(*states), CONSERVATIVE: listing(*states)}
    return FakeTransport(files | {state.path: state.body for state in (*states, *knows)})


class Holdings:
    """Stands in for the library; what is not to be had fails, what is slow waits for its event."""

    def __init__(self) -> None:
        self.held: list[str] = []
        self.missing: set[str] = set()
        self.slow: dict[str, trio.Event] = {}

    async def hold(self, resource: Resource) -> None:
        if resource.tree_hash in self.slow:
            await self.slow[resource.tree_hash].wait()
        if resource.tree_hash in self.missing:
            raise UpstreamFailedError("nobody delivers it")
        self.held.append(resource.tree_hash)


def welcomed_by_nobody(_: Collection[Resource]) -> None:
    """Stand in for a library that has nothing to do."""


@asynccontextmanager
async def following(
    root: Path,
    hosts: Mapping[str, FakeTransport],
    hold: Callable[[Resource], Awaitable[None]] | None = None,
    *,
    welcome: Callable[[Collection[Resource]], None] | None = None,
    choices: tuple[RegistryChoice, ...] | AllRegistries = ONLY_GENERAL,
    flavorless: bool = False,
    rollback_after_seconds: float = 3600,
    period_seconds: float = 1,
    check_origin: Callable[[str, str], Awaitable[OriginVerdict]] | None = None,
) -> AsyncIterator[Registries]:
    """Run the registries with a look every second, until the test is done with them."""
    folder = root / "static"
    folder.mkdir(exist_ok=True)
    async with open_servers(hosts) as servers, trio.open_nursery() as nursery:
        rules = Following(
            servers=servers,
            hold=hold or Holdings().hold,
            choices=choices,
            period_seconds=period_seconds,
            ledger=Ledger(root / "ledger.jsonl", Disk()),
            rollback_after_seconds=rollback_after_seconds,
            check_origin=check_origin or Origins({}).check,
            wall_seconds=lambda: START + trio.current_time(),
        )
        registries = Registries(folder, Disk(), rules, welcome=welcome or welcomed_by_nobody, flavorless=flavorless)
        nursery.start_soon(registries.run)
        yield registries
        nursery.cancel_scope.cancel()


def shown(registries: Registries, flavor: str = "eager") -> bytes | None:
    return registries.flavors[flavor].listing


async def test_what_the_servers_list_is_published_and_written(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with following(tmp_path, {"one.invalid": server(NEW)}) as registries:
        assert shown(registries) is None
        await trio.sleep(0.5)
        assert shown(registries) == shown(registries, "conservative") == listing(NEW)
    assert (tmp_path / "static" / "registries.eager").read_bytes() == listing(NEW)
    assert {path.name for path in (tmp_path / "static").iterdir()} == {"registries.eager", "registries.conservative"}


async def test_a_flavorless_upstream_is_followed_without_flavors(tmp_path: Path, autojump_clock: MockClock) -> None:
    host = FakeTransport({"/registries": listing(NEW)})
    async with following(tmp_path, {"one.invalid": host}, flavorless=True) as registries:
        await trio.sleep(0.5)
        assert registries.flavors.keys() == {""}
        assert shown(registries, "") == listing(NEW)
    assert (tmp_path / "static" / "registries").read_bytes() == listing(NEW)
    assert {request.path for request in host.seen} == {"/registries"}


async def test_flavors_are_independent(tmp_path: Path, autojump_clock: MockClock) -> None:
    host = FakeTransport(server(NEW).files, {("GET", CONSERVATIVE): Behaviour(never_answer=True)})
    async with following(tmp_path, {"one.invalid": host}) as registries:
        await trio.sleep(1.5)
        assert shown(registries) == listing(NEW)
        assert shown(registries, "conservative") is None
        host.files = server(NEWER, knows=(NEW,)).files
        host.script = {("GET", CONSERVATIVE): good(listing(OLD))}
        await trio.sleep(15)
        assert shown(registries) == listing(NEWER)
        assert shown(registries, "conservative") == listing(OLD)


@pytest.mark.parametrize("stuck", [Behaviour(never_answer=True), Behaviour(connect="hang"), Behaviour(stall_at=0)])
async def test_a_server_that_hangs_delays_no_news_of_another(
    tmp_path: Path, autojump_clock: MockClock, stuck: Behaviour
) -> None:
    fine = server(OLD)
    hosts = {"stuck.invalid": FakeTransport(script=lambda _: stuck), "fine.invalid": fine}
    async with following(tmp_path, hosts) as registries:
        for state in (OLD, NEW, NEWER):
            fine.files = server(state, knows=(OLD, NEW)).files
            await trio.sleep(1.5)
            assert shown(registries) == listing(state)


async def test_a_head_is_published_only_when_it_is_held(tmp_path: Path, autojump_clock: MockClock) -> None:
    host, holdings = server(OLD), Holdings()
    async with following(tmp_path, {"one.invalid": host}, holdings.hold) as registries:
        await trio.sleep(0.5)
        arriving = holdings.slow[NEW.resource.tree_hash] = trio.Event()
        host.files = server(NEW, knows=(OLD,)).files
        await trio.sleep(30)
        assert shown(registries) == listing(OLD)
        arriving.set()
        await trio.sleep(1.5)
        assert shown(registries) == listing(NEW)


async def test_a_published_head_is_already_in_the_cache(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_loft(tmp_path, {"one.invalid": server(NEW)}) as loft:

        async def hold(resource: Resource) -> None:
            await loft.library.hold(resource)
            assert resource.name in loft.cached

        async with following(tmp_path, {"one.invalid": server(NEW)}, hold) as registries:
            await trio.sleep(0.5)
            assert shown(registries) == listing(NEW)


async def test_a_head_that_is_not_to_be_had_is_tried_again_and_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    host, holdings = server(OLD), Holdings()
    async with following(tmp_path, {"one.invalid": host}, holdings.hold) as registries:
        await trio.sleep(0.5)
        holdings.missing = {NEW.resource.tree_hash}
        host.files = server(NEW, knows=(OLD,)).files
        await trio.sleep(5)
        assert shown(registries) == listing(OLD)
        holdings.missing = set()
        await trio.sleep(1.5)
        assert shown(registries) == listing(NEW)


async def test_when_the_newest_is_not_to_be_had_the_next_is_published(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    holdings = Holdings()
    holdings.missing = {NEWER.resource.tree_hash}
    hosts = {"one.invalid": server(NEWER, knows=(NEW, OLD)), "two.invalid": server(NEW, knows=(OLD,))}
    async with following(tmp_path, hosts, holdings.hold) as registries:
        await trio.sleep(2)
        assert shown(registries) == listing(NEW)


async def test_a_restart_with_all_servers_down_serves_what_was_published(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with following(tmp_path, {"one.invalid": server(NEW)}):
        await trio.sleep(0.5)
    down = FakeTransport(script=lambda _: Behaviour(connect="refuse"))
    async with following(tmp_path, {"one.invalid": down}) as registries:
        assert shown(registries) == listing(NEW)
        await trio.sleep(100)
        assert shown(registries) == shown(registries, "conservative") == listing(NEW)


async def test_two_registries_published_at_once_are_both_written(tmp_path: Path, autojump_clock: MockClock) -> None:
    hosts = {"one.invalid": server(NEW, MINE)}
    async with following(tmp_path, hosts, choices=AllRegistries.ALL) as registries:
        await trio.sleep(0.5)
        assert shown(registries) == listing(NEW, MINE)
    assert (tmp_path / "static" / "registries.eager").read_bytes() == listing(NEW, MINE)


@pytest.mark.parametrize(
    ("choices", "published"),
    [
        (ONLY_GENERAL, listing(NEW)),
        ((RegistryChoice(LOCAL, None),), listing(MINE)),
        (AllRegistries.ALL, listing(MINE, NEW)),
    ],
)
async def test_only_the_chosen_registries_are_held_and_published(
    tmp_path: Path,
    autojump_clock: MockClock,
    choices: tuple[RegistryChoice, ...] | AllRegistries,
    published: bytes,
) -> None:
    holdings = Holdings()
    async with following(tmp_path, {"one.invalid": server(NEW, MINE)}, holdings.hold, choices=choices) as registries:
        await trio.sleep(5)
        assert shown(registries) == published
    assert all(f"/{tree_hash}\n".encode() in published for tree_hash in holdings.held)


async def test_the_library_is_told_of_all_that_is_published_before_it_is_shown(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    told: list[set[str]] = []

    def welcome(heads: Collection[Resource]) -> None:
        told.append({head.tree_hash for head in heads})

    host = server(OLD)
    async with following(tmp_path, {"one.invalid": host}, welcome=welcome) as registries:
        await trio.sleep(0.5)
        assert told[-1] == {OLD.resource.tree_hash}
        host.files = server(NEW, knows=(OLD,)).files
        await trio.sleep(1.5)
        assert NEW.resource.tree_hash in told[-1]
        assert shown(registries) == listing(NEW)
    async with following(tmp_path, {"one.invalid": FakeTransport()}, welcome=welcome):
        await trio.sleep(0.5)
        assert told[-1] == {NEW.resource.tree_hash}


async def test_a_registry_goes_back_only_when_all_have_meant_it_for_long(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    one, two = server(OLD), server(OLD)
    hosts = {"one.invalid": one, "two.invalid": two}
    async with following(tmp_path, hosts, rollback_after_seconds=100) as registries:
        for state, knows in ((OLD, ()), (NEW, (OLD,)), (OLD, (NEW,))):
            one.files = server(state, knows=knows).files
            await trio.sleep(5)
        assert shown(registries) == listing(NEW)
        assert registries.flavors["eager"].rollbacks.refused == {(GENERAL, "http://one.invalid"): 1}
        await trio.sleep(200)
        assert shown(registries) == listing(OLD), "nobody offers anything newer"
        one.files = two.files = server(NEW, knows=(OLD,)).files
        await trio.sleep(99)
        assert shown(registries) == listing(OLD)
        await trio.sleep(5)
        assert shown(registries) == listing(NEW)


async def test_as_long_as_one_server_offers_the_newer_head_nothing_goes_back(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    one, two = server(OLD), server(OLD)
    hosts = {"one.invalid": one, "two.invalid": two}
    async with following(tmp_path, hosts, rollback_after_seconds=100) as registries:
        await trio.sleep(2)
        one.files = two.files = server(NEW, knows=(OLD,)).files
        await trio.sleep(2)
        two.files = server(OLD, knows=(NEW,)).files
        for _ in range(5):
            await trio.sleep(60)
            assert shown(registries) == listing(NEW)
        one.script = {("GET", EAGER): Behaviour(status=500)}
        await trio.sleep(90)
        assert shown(registries) == listing(NEW)


async def test_what_was_superseded_is_remembered_across_a_restart(tmp_path: Path, autojump_clock: MockClock) -> None:
    host = server(OLD)
    async with following(tmp_path, {"one.invalid": host}) as registries:
        await trio.sleep(2)
        host.files = server(NEW, knows=(OLD,)).files
        await trio.sleep(2)
        assert shown(registries) == listing(NEW)
    host.files = server(OLD, knows=(NEW,)).files
    async with following(tmp_path, {"one.invalid": host}) as registries:
        await trio.sleep(600)
        assert shown(registries) == listing(NEW)


async def test_a_server_that_loses_a_registry_while_it_is_asked_about_it_does_no_harm(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    slow = Behaviour(delay_before_head=3)
    fickle = FakeTransport(
        {state.path: state.body for state in (OLD, NEW)},
        {("GET", EAGER): [good(listing(NEW)), good(b"<!DOCTYPE html>")], ("HEAD", OLD.path): slow},
    )
    async with following(tmp_path, {"one.invalid": server(OLD), "fickle.invalid": fickle}) as registries:
        await trio.sleep(8)
        assert shown(registries) is not None


@pytest.mark.parametrize("denies", [True, False])
async def test_a_stale_list_of_a_server_that_has_moved_on_moves_nobody_back(
    tmp_path: Path, autojump_clock: MockClock, *, denies: bool
) -> None:
    one, two = server(OLD), server(OLD)
    async with following(tmp_path, {"one.invalid": one, "two.invalid": two}) as registries:
        await trio.sleep(2)
        one.files = two.files = server(NEW, knows=(OLD,)).files
        await trio.sleep(2)
        assert shown(registries) == listing(NEW)
        one.script = {("HEAD", OLD.path): MISSING} if denies else {("GET", EAGER): Behaviour(status=500)}
        two.files = server(OLD, knows=(NEW,)).files
        await trio.sleep(100)
        assert shown(registries) == listing(NEW)


async def test_a_list_with_an_earlier_date_moves_nobody_back(tmp_path: Path, autojump_clock: MockClock) -> None:
    def dated(state: Tarball, date: str) -> dict[tuple[str, str], Behaviour]:
        answer = replace(good(listing(state)), headers={"last-modified": f"Thu, 0{date} Jan 2026 00:00:00 GMT"})
        return {("GET", EAGER): answer}

    host = server(NEW, knows=(OLD, NEWER))
    host.script = dated(NEW, "2")
    async with following(tmp_path, {"one.invalid": host}) as registries:
        await trio.sleep(2)
        host.script = dated(OLD, "1")
        await trio.sleep(10)
        assert shown(registries) == listing(NEW), "never seen before, yet older"
        host.script = dated(NEWER, "3")
        await trio.sleep(2)
        assert shown(registries) == listing(NEWER)


def flavorless(*states: Tarball, knows: tuple[Tarball, ...] = ()) -> FakeTransport:
    return FakeTransport({"/registries": listing(*states)} | {state.path: state.body for state in (*states, *knows)})


async def test_a_server_without_flavors_feeds_both_with_one_request_each(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    host = flavorless(NEW)
    async with following(tmp_path, {"one.invalid": host}) as registries:
        await trio.sleep(40.5)
        assert shown(registries) == shown(registries, "conservative") == listing(NEW)
        lately = [request for request in host.seen if request.time > 10]
        assert {(request.method, request.path) for request in lately} == {("GET", "/registries")}
        assert len(lately) == 2 * 30
        assert all("if-none-match" in request.headers for request in lately)


async def test_beside_servers_with_flavors_one_without_is_heard_for_the_eager_one_only(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    plain = flavorless(NEWER, knows=(NEW, OLD))
    async with following(tmp_path, {"one.invalid": server(OLD), "plain.invalid": plain}) as registries:
        await trio.sleep(5)
        assert shown(registries) == listing(NEWER)
        assert shown(registries, "conservative") == listing(OLD)


async def test_a_server_may_lose_its_flavors_and_get_them_back(tmp_path: Path, autojump_clock: MockClock) -> None:
    host = server(OLD)
    async with following(tmp_path, {"one.invalid": host}) as registries:
        await trio.sleep(5)
        host.files = flavorless(NEW, knows=(OLD,)).files
        await trio.sleep(65)
        assert shown(registries) == shown(registries, "conservative") == listing(NEW)
        host.files = server(NEWER, knows=(NEW,)).files
        await trio.sleep(65)
        assert shown(registries) == shown(registries, "conservative") == listing(NEWER)


async def test_a_list_that_is_only_missing_is_replaced_by_no_other(tmp_path: Path, autojump_clock: MockClock) -> None:
    host = server(OLD)
    host.files = {EAGER: listing(OLD), "/registries": listing(OLD), OLD.path: OLD.body}
    async with following(tmp_path, {"one.invalid": host}) as registries:
        await trio.sleep(200)
        assert shown(registries) == listing(OLD)
        assert shown(registries, "conservative") is None


async def test_what_is_ignored_in_a_list_is_told_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    host = server(NEW, MINE)
    host.files = {**host.files, EAGER: listing(NEW, MINE) + b"/registry/nonsense\n"}
    with capture_logs() as lines:
        async with following(tmp_path, {"one.invalid": host}) as registries:
            await trio.sleep(100)
            (poll,) = registries.flavors["eager"].polls
            assert (poll.malformed, registries.flavors["eager"].unknown(poll)) == (1, 1)
            assert shown(registries) == listing(NEW)
    ignored = [line for line in lines if line["event"] == "storage server lists what is ignored"]
    told = sorted((line["flavor"], line["what"]) for line in ignored)
    other = "registries that are not served"
    assert told == [("conservative", other), ("eager", "malformed lines"), ("eager", other)]


async def test_a_day_with_all_servers_down_changes_nothing_but_the_age(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    host = server(NEW)
    async with following(tmp_path, {"one.invalid": host}, period_seconds=60) as registries:
        await trio.sleep(5)
        flavor = registries.flavors["eager"]
        (poll,) = flavor.polls
        succeeded, adopted = poll.succeeded, flavor.adopted_seconds(GENERAL)
        host.script = lambda _: Behaviour(connect="refuse")
        await trio.sleep(25 * 3600)
        assert shown(registries) == listing(NEW)
        assert (poll.succeeded, poll.failing) == (succeeded, True)
        assert flavor.adopted_seconds(GENERAL) == adopted
        assert flavor.age_seconds(GENERAL) == pytest.approx(25 * 3600 + 5, abs=1)
        ready = readiness(registries.flavors.values())
        report = json.loads(await ready.get_data())
        assert (ready.status_code, report["status"]) == (200, "degraded")
        assert report["registries"]["eager"]["published"][GENERAL]["age_seconds"] > 25 * 3600


async def test_a_defect_in_a_decision_is_told_and_ends_nothing(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = server(OLD)
    with capture_logs() as lines:
        async with following(tmp_path, {"one.invalid": host}) as registries:
            with monkeypatch.context() as patch:
                patch.setattr("pkgserver_trio.registries.head_choice.ranked", None)
                await trio.sleep(3)
            assert shown(registries) is None
            await trio.sleep(2)
            assert shown(registries) == listing(OLD)
    assert any(line["log_level"] == "error" for line in lines)


class Origin:
    """Stands in for the origins: says of each head what it is told to."""

    def __init__(self) -> None:
        self.verdicts: dict[str, OriginVerdict] = {}
        self.asked: list[tuple[str, str]] = []

    async def check(self, uuid: str, tree_hash: str) -> OriginVerdict:
        await trio.lowlevel.checkpoint()
        self.asked.append((uuid, tree_hash))
        return self.verdicts.get(tree_hash, OriginVerdict(Outcome.CONFIRMED))


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.UNKNOWN])
async def test_a_head_that_its_origin_does_not_confirm_is_held_back_and_nothing_else(
    tmp_path: Path, autojump_clock: MockClock, outcome: Outcome
) -> None:
    host, origin = server(OLD, MINE), Origin()
    both = (RegistryChoice(GENERAL, None), RegistryChoice(LOCAL, None))
    with capture_logs() as lines:
        async with following(tmp_path, {"one.invalid": host}, choices=both, check_origin=origin.check) as registries:
            await trio.sleep(3)
            assert shown(registries) == listing(OLD, MINE)
            head = NEW.resource.tree_hash
            origin.verdicts[head] = OriginVerdict(outcome, "the host is away")
            host.files = server(NEW, MINE, knows=(OLD,)).files
            await trio.sleep(100)
            assert shown(registries) == listing(OLD, MINE)
            flavor = registries.flavors["eager"]
            assert flavor.held_back == {GENERAL: {head: f"{outcome.value}: the host is away"}}
            origin.verdicts.clear()
            await trio.sleep(2)
            assert shown(registries) == listing(NEW, MINE)
            assert flavor.held_back == {}
    told = [line for line in lines if "held back" in line["event"]]
    assert len(told) == len(registries.flavors), "once for each flavor"


async def test_the_origin_is_asked_before_anything_is_downloaded_and_not_about_what_is_published(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    origin, holdings = Origin(), Holdings()
    origin.verdicts[NEW.resource.tree_hash] = OriginVerdict(Outcome.REFUSED, "no recent commit")
    async with following(
        tmp_path, {"one.invalid": server(NEW)}, holdings.hold, check_origin=origin.check
    ) as registries:
        await trio.sleep(5)
        assert holdings.held == []
        assert shown(registries) is None
        origin.verdicts.clear()
        await trio.sleep(2)
        assert shown(registries) == listing(NEW)
        asked = len(origin.asked)
        await trio.sleep(100)
        assert len(origin.asked) == asked


async def test_what_was_published_before_there_was_a_ledger_is_as_old_as_the_start(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "registries.eager").write_bytes(listing(OLD))
    async with following(tmp_path, {"one.invalid": FakeTransport()}) as registries:
        assert registries.flavors["eager"].adopted_seconds(GENERAL) is None
        await trio.sleep(1)
        adopted = registries.flavors["eager"].adopted_seconds(GENERAL)
        assert adopted is not None
        assert START <= adopted <= START + 1

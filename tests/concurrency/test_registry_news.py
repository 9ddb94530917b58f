"""What is told of registries: once, and only while it is so; and how soon news of them is published."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import trio
from structlog.testing import capture_logs
from tests.concurrency.test_registries import (
    CONSERVATIVE,
    NEW,
    NEWER,
    OLD,
    Holdings,
    Origin,
    following,
    listing,
    server,
    shown,
)
from tests.fakes import Behaviour

from pkgserver_trio.registries.origin_check import OriginVerdict, Outcome

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from trio.testing import MockClock

    from pkgserver_trio.resource import Resource


async def test_what_is_no_longer_offered_is_no_longer_held_back(tmp_path: Path, autojump_clock: MockClock) -> None:
    host, origin = server(OLD), Origin()
    async with following(tmp_path, {"one.invalid": host}, check_origin=origin.check) as registries:
        await trio.sleep(3)
        origin.verdicts[NEW.resource.tree_hash] = OriginVerdict(Outcome.REFUSED, "no recent commit")
        host.files = server(NEW, knows=(OLD,)).files
        await trio.sleep(10)
        assert registries.flavors["eager"].held_back
        host.files = server(OLD).files  # the bad list is taken back
        await trio.sleep(600)
        assert registries.flavors["eager"].held_back == {}, "readyz stays degraded for ever"


async def test_two_heads_held_back_are_told_once_each(tmp_path: Path, autojump_clock: MockClock) -> None:
    one, two, origin = server(OLD), server(OLD), Origin()
    with capture_logs() as lines:
        async with following(tmp_path, {"one.invalid": one, "two.invalid": two}, check_origin=origin.check):
            await trio.sleep(3)
            for head in (NEW, NEWER):
                origin.verdicts[head.resource.tree_hash] = OriginVerdict(Outcome.UNKNOWN, "cannot be reached")
            one.files = server(NEW, knows=(OLD,)).files
            two.files = server(NEWER, knows=(OLD, NEW)).files
            await trio.sleep(100)
    told = Counter((line["flavor"], line["head"][:6]) for line in lines if "held back" in line["event"])
    assert all(count == 1 for count in told.values()), told


async def test_a_server_that_fails_for_one_flavor_only_is_told_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    host = server(NEW)
    host.script = {("GET", CONSERVATIVE): Behaviour(status=500)}
    with capture_logs() as lines:
        async with following(tmp_path, {"one.invalid": host}):
            await trio.sleep(100)
    told = Counter(line["event"] for line in lines if "gives" in line["event"])
    assert told.total() <= 2, told


async def test_a_head_that_cannot_be_had_is_told_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    host, holdings = server(NEW), Holdings()
    holdings.missing.add(NEW.resource.tree_hash)
    with capture_logs() as lines:
        async with following(tmp_path, {"one.invalid": host}, holdings.hold):
            await trio.sleep(100)
    told = Counter((line["event"], line["flavor"]) for line in lines if "not to be had" in line["event"])
    assert all(count <= 2 for count in told.values()), told


async def test_news_is_published_within_two_periods(tmp_path: Path, autojump_clock: MockClock) -> None:
    hosts = {"one.invalid": server(OLD), "two.invalid": server(OLD), "down.invalid": server(OLD)}
    hosts["down.invalid"].script = lambda _: Behaviour(never_answer=True)
    async with following(tmp_path, hosts, period_seconds=1) as registries:
        for waited in (5, 5.3, 5.6, 5.9):
            await trio.sleep(waited)
            before, after = (OLD, NEW) if shown(registries) == listing(OLD) else (NEW, NEWER)
            hosts["two.invalid"].files = server(after, knows=(OLD, before)).files
            await trio.sleep(2)
            assert shown(registries) == shown(registries, "conservative") == listing(after)
            if after is NEWER:
                return


async def test_a_stale_offer_before_an_outage_is_not_meant_after_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    """One look at an old list, an hour without anybody, one more look: has it been offered for an hour?"""
    host = server(OLD)
    async with following(tmp_path, {"one.invalid": host}) as registries:
        await trio.sleep(3)
        host.files = server(NEW, knows=(OLD,)).files
        await trio.sleep(5)
        assert shown(registries) == listing(NEW)
        host.files = server(OLD, knows=(NEW,)).files
        await trio.sleep(3)
        host.script = lambda _: Behaviour(status=500)
        await trio.sleep(3700)
        host.script = {}
        await trio.sleep(5)
        assert shown(registries) == listing(NEW), "went back after 8 seconds of offers"


async def test_a_head_that_cannot_be_had_is_asked_for_less_and_less(tmp_path: Path, autojump_clock: MockClock) -> None:
    class Counting(Holdings):
        asked = 0

        async def hold(self, resource: Resource) -> None:
            self.asked += 1
            await super().hold(resource)

    holdings = Counting()
    holdings.missing.add(NEW.resource.tree_hash)
    async with following(tmp_path, {"one.invalid": server(NEW)}, holdings.hold):
        await trio.sleep(600)
    assert holdings.asked < 2 * 20


async def test_a_defect_in_a_poll_is_told_and_ends_nothing(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with capture_logs() as lines:
        async with following(tmp_path, {"one.invalid": server(OLD)}) as registries:
            with monkeypatch.context() as patch:
                patch.setattr("pkgserver_trio.registries.poll.parse_listing", None)
                await trio.sleep(3)
            await trio.sleep(2)
            assert shown(registries) == listing(OLD)
    assert any(line["log_level"] == "error" for line in lines)

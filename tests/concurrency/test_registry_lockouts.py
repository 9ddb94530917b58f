"""Good heads, and what must not lock them out for ever: wrong clocks, lost heads, skipped ones, a false answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import trio
from tests.concurrency.test_registries import EAGER, GENERAL, NEW, NEWER, OLD, following, listing, server, shown
from tests.fakes import MISSING, good
from tests.lofts import registry_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes import Behaviour
    from tests.lofts import Tarball
    from trio.testing import MockClock

STATES = [registry_of(GENERAL, f"state {n}") for n in range(30)]


def dated(state: Tarball, date: str) -> dict[tuple[str, str], Behaviour]:
    return {("GET", EAGER): replace(good(listing(state)), headers={"last-modified": date})}


async def test_one_date_in_the_future_stops_no_registry(tmp_path: Path, autojump_clock: MockClock) -> None:
    one, two = server(OLD), server(OLD)
    one.script = dated(OLD, "Thu, 01 Jan 2099 00:00:00 GMT")  # once: a wrong clock, or a lie
    two.script = dated(OLD, "Thu, 01 Jan 2026 00:00:00 GMT")
    async with following(tmp_path, {"one.invalid": one, "two.invalid": two}, period_seconds=30) as registries:
        await trio.sleep(70)
        one.script = {}
    for restart in range(2):
        async with following(tmp_path, {"one.invalid": one, "two.invalid": two}, period_seconds=30) as registries:
            for n in range(15):  # five hours, a new head every 20 minutes
                state = STATES[15 * restart + n]
                knows = (OLD, *STATES[: 15 * restart + n])
                for host in (one, two):
                    host.files = server(state, knows=knows).files
                    host.script = dated(state, f"Thu, 01 Jan 2026 {n:02}:20:00 GMT")
                await trio.sleep(1200)
    assert shown(registries) == listing(STATES[-1])


async def test_a_published_head_that_storage_lost_stops_no_registry(tmp_path: Path, autojump_clock: MockClock) -> None:
    one = server(OLD)
    async with following(tmp_path, {"one.invalid": one}, period_seconds=30) as registries:
        await trio.sleep(2)
        for n in range(30):  # ten hours; the storage server (another mirror, or one emptied) never had OLD
            one.files = server(STATES[n], knows=tuple(STATES[:n])).files
            await trio.sleep(1200)
        assert shown(registries) == listing(STATES[-1])


async def test_servers_that_skipped_a_head_get_the_next_one_out(tmp_path: Path, autojump_clock: MockClock) -> None:
    one, two, three = server(OLD), server(OLD), server(OLD)
    hosts = {"one.invalid": one, "two.invalid": two, "three.invalid": three}
    async with following(tmp_path, hosts) as registries:
        await trio.sleep(3)
        two.files = server(NEW, knows=(OLD,)).files  # looked between the two publications
        await trio.sleep(3)
        assert shown(registries) == listing(NEW)
        one.files = three.files = server(NEWER, knows=(OLD,)).files  # looked after both: never had NEW
        await trio.sleep(3)
        two.files = server(NEWER, knows=(OLD, NEW)).files
        await trio.sleep(30)
        assert shown(registries) == listing(NEWER)


async def test_one_wrong_404_condemns_no_good_head(tmp_path: Path, autojump_clock: MockClock) -> None:
    one = server(OLD)
    async with following(tmp_path, {"one.invalid": one}) as registries:
        await trio.sleep(3)
        one.files = server(NEW, knows=(OLD,)).files
        one.script = {("HEAD", OLD.path): [MISSING, MISSING, good(OLD.body)]}  # once for each flavor
        await trio.sleep(60)
        assert shown(registries) == listing(NEW)

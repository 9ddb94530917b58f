"""What one slow server, or one peer that asks for much, takes off all others: a part, never everything."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio
from tests.fakes import MISSING, Behaviour, FakeTransport, Pieces, good
from tests.lofts import LoftPlan, open_loft, registry_of, tarball

from pkgserver_trio.errors import PeerOverBoundError, QueueFullError
from pkgserver_trio.upstream.admission import Turns

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes import Request
    from trio.testing import MockClock

WANTED = tarball("wanted", 40_000)
LARGE = [tarball(f"large {number}", 300_000) for number in range(8)]
HEAD = registry_of("23338594-aafe-5451-b93e-139f81909106", "head")
FILES = {made.path: made.body for made in (WANTED, HEAD, *LARGE)}


def trickling(size: int) -> FakeTransport:
    """Return a server that answers first, and sends little of its large files."""
    slow = {("GET", made.path): replace(good(made.body), pieces=Pieces(size, pause=4)) for made in LARGE}
    return FakeTransport(FILES, slow)


@pytest.mark.parametrize("slowness", [4, 4.9])
async def test_a_server_that_is_slow_within_its_time_serves_after_one_that_fell_silent(
    tmp_path: Path, autojump_clock: MockClock, slowness: float
) -> None:
    stalls = FakeTransport(FILES, {("GET", WANTED.path): Behaviour(never_answer=True)})
    slow = replace(good(WANTED.body), delay_before_head=slowness)
    serves = FakeTransport(script=lambda _: slow)
    async with open_loft(tmp_path, {"stalls.invalid": stalls, "slow.invalid": serves}) as loft:
        began = trio.current_time()
        assert (await loft.get(WANTED.resource)).body == WANTED.body
        assert trio.current_time() - began < 12
    assert serves.requests("HEAD", WANTED.path) == 1, "and it was not probed again"


async def test_who_trickles_is_left_for_who_does_not(tmp_path: Path, autojump_clock: MockClock) -> None:
    late = {("HEAD", made.path): replace(good(made.body), delay_before_head=0.1) for made in LARGE}
    hosts = {"trickles.invalid": trickling(300), "fine.invalid": FakeTransport(FILES, late)}
    async with open_loft(tmp_path, hosts) as loft:
        with trio.fail_after(12):
            await loft.library.hold(LARGE[0].resource)


async def test_who_trickles_is_heard_to_the_end_when_nobody_else_is_left(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_loft(tmp_path, {"trickles.invalid": trickling(3000)}) as loft:
        await loft.library.hold(LARGE[0].resource)
        assert trio.current_time() > 60


async def test_one_peers_slow_downloads_hold_up_neither_others_nor_a_registry(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    hosts = {"trickles.invalid": trickling(3000)}
    async with open_loft(tmp_path, hosts, LoftPlan(max_downloads=8)) as loft:
        for made in LARGE:
            loft.downloads.join(made.resource, "192.0.2.1")
        await trio.sleep(6)
        assert len(loft.downloads.flights) == 4
        await loft.library.hold(WANTED.resource, peer="192.0.2.2")
        refused = [made for made in LARGE if made.resource not in loft.downloads.flights]
        for number, made in enumerate(refused):
            loft.downloads.join(made.resource, f"198.51.100.{number}")
        await trio.sleep(1)
        assert len(loft.downloads.flights) == 8
        await loft.library.hold(HEAD.resource)


async def test_a_flood_of_one_peer_beside_a_slow_server_keeps_nobody_out(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    def answer_slowly(_: Request) -> Behaviour:
        return replace(MISSING, delay_before_head=4)

    hosts = {"slow.invalid": FakeTransport(script=answer_slowly), "fine.invalid": FakeTransport(FILES)}
    async with open_loft(tmp_path, hosts) as loft:
        for seed in range(128):
            loft.downloads.join(tarball(f"nobody {seed}", 10).resource, "192.0.2.1")
        await trio.sleep(0.5)
        began = trio.current_time()
        await loft.library.hold(WANTED.resource, peer="192.0.2.2")
        assert trio.current_time() - began < 1


async def test_a_turn_is_refused_for_the_reason_that_there_is(autojump_clock: MockClock) -> None:
    turns = Turns(3, 2)

    async def take(peer: str) -> None:
        async with turns.take(peer, trio.current_time() + 1):
            await trio.sleep(5)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, "a")
        nursery.start_soon(take, "a")
        await trio.sleep(0.1)
        with pytest.raises(PeerOverBoundError, match="a has 2"):
            await take("a")
        nursery.start_soon(take, "b")
        await trio.sleep(0.1)
        with pytest.raises(QueueFullError):
            await take("c")
        await take("")
    assert not turns.total.borrowed_tokens

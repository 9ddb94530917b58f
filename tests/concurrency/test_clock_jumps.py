"""A wall clock that jumps by years, both ways: the order of use, what is missing and who rests do not follow it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import trio
from tests.fakes import Behaviour, FakeTransport
from tests.lofts import LoftPlan, open_loft, tarball

from pkgserver_trio.errors import NotFoundError, UpstreamFailedError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lofts import Loft, Tarball
    from trio.testing import MockClock

YEAR_SECONDS = 365 * 86_400
ONE, TWO, THREE, FOUR = (tarball(seed) for seed in ("one", "two", "three", "four"))
SIZE = max(made.size for made in (ONE, TWO, THREE, FOUR))
FILES = {made.path: made.body for made in (ONE, TWO, THREE, FOUR)}
JUMPS = pytest.mark.parametrize("years", [-30, 30])


class WallClock:
    """The time of day, as a test sets it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 1_800_000_000
        monkeypatch.setattr(time, "time", lambda: float(self.seconds))

    def ns(self) -> int:
        return self.seconds * 1_000_000_000

    def jump(self, years: int) -> None:
        self.seconds += years * YEAR_SECONDS


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    return WallClock(monkeypatch)


async def hold(loft: Loft, *wanted: Tarball) -> None:
    for made in wanted:
        await loft.library.hold(made.resource)


def names(*tarballs: Tarball) -> set[str]:
    return {made.resource.name for made in tarballs}


@JUMPS
async def test_the_order_of_use_survives_a_jump(tmp_path: Path, no_threads: None, wall: WallClock, years: int) -> None:
    async with open_loft(
        tmp_path, {"one.invalid": FakeTransport(FILES)}, LoftPlan(wall_ns=wall.ns, max_cache=3 * SIZE)
    ) as loft:
        await hold(loft, ONE, TWO)
        wall.jump(years)
        await hold(loft, THREE, ONE, FOUR)
        assert loft.cached == names(THREE, ONE, FOUR)


@JUMPS
async def test_the_order_of_use_survives_a_jump_and_a_restart(
    tmp_path: Path, no_threads: None, wall: WallClock, years: int
) -> None:
    hosts = {"one.invalid": FakeTransport(FILES)}
    for used in [(ONE, TWO, THREE), (ONE,), (TWO,)]:  # a restart and a jump between any two
        async with open_loft(tmp_path, hosts, LoftPlan(wall_ns=wall.ns)) as loft:
            await loft.store.scan()
            await hold(loft, *used)
            await loft.store.save_access_times()
        wall.jump(years)
        years = -years
    async with open_loft(tmp_path, hosts, LoftPlan(wall_ns=wall.ns, max_cache=3 * SIZE)) as loft:
        await loft.store.scan()
        assert list(loft.store.suspects()) == []
        await hold(loft, FOUR)
        assert loft.cached == names(ONE, TWO, FOUR)


@JUMPS
async def test_a_hit_keeps_its_time_and_its_bytes(
    tmp_path: Path, no_threads: None, wall: WallClock, years: int
) -> None:
    host = FakeTransport(FILES)
    async with open_loft(tmp_path, {"one.invalid": host}, LoftPlan(wall_ns=wall.ns)) as loft:
        await hold(loft, ONE)
        before = await loft.library.sight(ONE.resource)
        wall.jump(years)
        assert await loft.library.sight(ONE.resource) == before
        assert (await loft.get(ONE.resource)).body == ONE.body
        await hold(loft, TWO)
        assert (await loft.get(TWO.resource)).body == TWO.body
        assert host.requests("GET", ONE.path) == 1


@JUMPS
async def test_what_is_missing_is_remembered_for_its_time_by_another_clock(
    tmp_path: Path, autojump_clock: MockClock, wall: WallClock, years: int
) -> None:
    host = FakeTransport()
    async with open_loft(tmp_path, {"one.invalid": host}, LoftPlan(wall_ns=wall.ns)) as loft:
        for asked in (1, 1, 2):
            with pytest.raises(NotFoundError):
                await loft.get(ONE.resource)
            assert host.requests("HEAD", ONE.path) == asked
            wall.jump(years)
            await trio.sleep(6)


@JUMPS
async def test_a_server_rests_for_its_time_by_another_clock(
    tmp_path: Path, autojump_clock: MockClock, wall: WallClock, years: int
) -> None:
    bad = FakeTransport(script=lambda _: Behaviour(status=500))
    async with open_loft(tmp_path, {"bad.invalid": bad, "empty.invalid": FakeTransport()}) as loft:
        for number, asked in enumerate((1, 2, 3, 3, 3)):
            with pytest.raises(UpstreamFailedError):
                await loft.get(tarball(str(number)).resource)  # another one: what failed is not asked for again at once
            assert len(bad.seen) == asked
            wall.jump(years)
        await trio.sleep(61)
        with pytest.raises(UpstreamFailedError):
            await loft.get(ONE.resource)
        assert len(bad.seen) == 4

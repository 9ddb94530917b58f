"""What becomes of hits that nginx served: counted, and noted as use."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
from tests.fakes import FakeTransport
from tests.lofts import LoftPlan, open_loft, tarball

from pkgserver_trio.hits.lines import Hit
from pkgserver_trio.keeper import keep
from pkgserver_trio.main import run
from pkgserver_trio.opening import StartError
from pkgserver_trio.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lofts import Loft
    from trio.testing import MockClock

    from pkgserver_trio.resource import Resource

ONE, TWO, THREE = (tarball(seed) for seed in ("one", "two", "three"))
FILES = {made.path: made.body for made in (ONE, TWO, THREE)}
NS = 10**9


def noted(loft: Loft, *resources: Resource, time_ns: int) -> dict[int, int]:
    """Return what is noted as used, and when, after hits at that time."""
    loft.store.index.take_used()
    loft.library.note_hits([Hit(resource, 5, time_ns) for resource in resources])
    return loft.store.index.take_used()


async def test_a_hit_of_nginx_keeps_its_file_from_eviction(tmp_path: Path, autojump_clock: MockClock) -> None:
    plan = LoftPlan(max_cache=2 * max(made.size for made in (ONE, TWO, THREE)))
    async with open_loft(tmp_path, {"one.invalid": FakeTransport(FILES)}, plan) as loft:
        for made in (ONE, TWO):
            await loft.get(made.resource)
            await trio.sleep(1)
        loft.library.note_hits([Hit(ONE.resource, 5, time.time_ns())])
        await loft.get(THREE.resource)
        await trio.sleep(1)
        assert loft.cached == {ONE.resource.name, THREE.resource.name}


async def test_a_hit_is_a_use_at_its_own_time_but_never_in_the_future(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    now_ns = time.time_ns()
    async with open_loft(tmp_path, {"one.invalid": FakeTransport(FILES)}, LoftPlan(wall_ns=lambda: NS)) as loft:
        await loft.get(ONE.resource)
        await trio.sleep(1)
        assert noted(loft, ONE.resource, time_ns=7 * NS) == {ONE.resource.pack(): 7 * NS}
        (used_ns,) = noted(loft, ONE.resource, time_ns=now_ns + 10**6 * NS).values()
        assert now_ns <= used_ns < now_ns + 1000 * NS


async def test_a_hit_of_what_the_cache_lacks_is_counted_and_makes_no_entry(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    counted: list[tuple[Resource, int]] = []
    async with open_loft(tmp_path, {}) as loft:
        loft.library._count_nginx_hit = lambda *hit: counted.append(hit)
        assert noted(loft, ONE.resource, TWO.resource, time_ns=NS) == {}
        assert counted == [(ONE.resource, 5), (TWO.resource, 5)]
        assert not loft.library.note_whole_hit(ONE.resource)
        assert (len(counted), len(loft.store.index)) == (2, 0)


async def test_hits_from_before_the_start_are_noted_once_the_cache_is_indexed(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    log = tmp_path / "hits.log"
    async with open_loft(tmp_path, {"one.invalid": FakeTransport(FILES)}) as loft:
        await loft.get(ONE.resource)
    log.write_text(f"9000000.000 200 5 GET {ONE.path}\n")
    async with open_loft(tmp_path, {}) as loft, trio.open_nursery() as nursery:
        nursery.start_soon(partial(keep, loft.library, [log]))
        await trio.sleep(3)
        assert loft.store.index.take_used().keys() == {ONE.resource.pack()}
        nursery.cancel_scope.cancel()
    assert (tmp_path / "hit-positions.json").exists()


async def test_a_folder_instead_of_a_log_stops_the_start(tmp_path: Path) -> None:
    settings = Settings.from_mapping(
        {
            "JULIA_PKG_SERVER": "127.0.0.1:0",
            "JULIA_PKG_SERVER_STORAGE_ROOT": str(tmp_path / "store"),
            "PKGSERVER_HIT_LOGS": f"{tmp_path}/later.log,{tmp_path}",
            "PKGSERVER_ORIGIN_CHECK": "off",
        }
    )
    with pytest.raises(StartError, match=f"^PKGSERVER_HIT_LOGS: {tmp_path} is a folder, expected a file"):
        await run(settings, trio.Event())

"""What the cache may hold: eviction, what does not fit, and the index that is rebuilt from the disk."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.disks import SmallDisk
from tests.fakes import Behaviour, FakeTransport, good
from tests.lofts import LoftPlan, open_loft, read_on, tarball
from trio.testing import wait_all_tasks_blocked

from pkgserver_trio.errors import UpstreamFailedError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lofts import Loft, Tarball
    from trio.testing import MockClock

ONE, TWO, THREE, FOUR = (tarball(seed) for seed in ("one", "two", "three", "four"))
ALL = (ONE, TWO, THREE, FOUR)
SIZE = max(made.size for made in ALL)
LARGE = tarball("large", 10 * SIZE)
FILES = {made.path: made.body for made in (*ALL, LARGE)}

# Room for three, told in both ways that an operator can.
ROOM_FOR_THREE = pytest.mark.parametrize(
    "plan",
    [LoftPlan(max_cache=3 * SIZE), LoftPlan(disk=SmallDisk(5 * SIZE), keep_free=2 * SIZE)],
    ids=["max_cache", "keep_free"],
)


async def fetch(loft: Loft, *wanted: Tarball) -> None:
    for made in wanted:
        assert (await loft.get(made.resource)).body == made.body
        await wait_all_tasks_blocked()
    loft.assert_no_leftovers()


def names(*tarballs: Tarball) -> set[str]:
    return {made.resource.name for made in tarballs}


@ROOM_FOR_THREE
async def test_the_files_used_longest_ago_make_room(tmp_path: Path, no_threads: None, plan: LoftPlan) -> None:
    async with open_loft(tmp_path, {"one.invalid": FakeTransport(FILES)}, plan) as loft:
        await fetch(loft, ONE, TWO, THREE)
        assert loft.cached == names(ONE, TWO, THREE)
        await fetch(loft, ONE, FOUR)  # ONE was used again, so TWO has to go
        assert loft.cached == names(ONE, THREE, FOUR)
        await fetch(loft, TWO)
        assert loft.cached == names(ONE, FOUR, TWO)
        assert loft.store.index.total_bytes <= 3 * SIZE
        assert loft.store.index.evicted_files == 2
        assert loft.store.index.evicted_bytes == TWO.size + THREE.size


@ROOM_FOR_THREE
@pytest.mark.parametrize("length", ["true", None])
async def test_what_does_not_fit_is_streamed_and_verified_and_dropped(
    tmp_path: Path, no_threads: None, plan: LoftPlan, length: int | None
) -> None:
    host = FakeTransport(FILES, {("GET", LARGE.path): Behaviour(body=LARGE.body, declared_length=length)})
    async with open_loft(tmp_path, {"one.invalid": host}, plan) as loft:
        await fetch(loft, ONE, TWO, LARGE)
        assert loft.cached == names(ONE, TWO)  # nothing was evicted in vain
        host.script = {("GET", LARGE.path): Behaviour(body=tarball("other", 10 * SIZE).body)}
        assert (await loft.get(LARGE.resource)).body != LARGE.body
        assert loft.cached == names(ONE, TWO)


async def test_an_evicted_file_stays_readable_while_it_is_open(tmp_path: Path, no_threads: None) -> None:
    host = FakeTransport(FILES)
    async with open_loft(tmp_path, {"one.invalid": host}, LoftPlan(max_cache=SIZE)) as loft:
        await fetch(loft, ONE)
        source = await loft.library.obtain(ONE.resource)
        await fetch(loft, TWO)
        assert loft.cached == names(TWO)
        assert (await read_on(source)).body == ONE.body
        await fetch(loft, ONE)
    assert host.requests("GET", ONE.path) == 2


async def test_space_that_others_reserved_is_not_given_twice(tmp_path: Path, no_threads: None) -> None:
    async with open_loft(tmp_path, {}, LoftPlan(max_cache=1000)) as loft:
        with loft.store.reserve(ONE.resource) as first, loft.store.reserve(TWO.resource) as second:
            await first.expect(700)
            await second.expect(400)
            assert (first.fits, second.fits) == (True, False)
            await second.expect(300)
            assert second.fits
        loft.assert_no_leftovers()


async def test_a_false_length_evicts_no_more_than_its_sender_sends(tmp_path: Path, autojump_clock: MockClock) -> None:
    kept = [tarball(f"kept {number}") for number in range(20)]
    host = FakeTransport({made.path: made.body for made in kept})
    size = sum(made.size for made in kept)
    liar = replace(good(ONE.body), declared_length=size - SIZE)
    host.script = {("HEAD", ONE.path): good(ONE.body), ("GET", ONE.path): liar}
    async with open_loft(tmp_path, {"one.invalid": host}, LoftPlan(max_cache=size)) as loft:
        for made in kept:
            await loft.library.hold(made.resource)
        with pytest.raises(UpstreamFailedError):
            await loft.library.hold(ONE.resource)
        assert len(loft.cached) >= len(kept) - 3  # twice what came


@pytest.mark.parametrize("room", [SIZE, SIZE - 200])
async def test_what_the_first_servers_false_length_kept_from_fitting_fits_by_the_nexts(
    tmp_path: Path, autojump_clock: MockClock, room: int
) -> None:
    liar = replace(good(ONE.body), declared_length=10 * SIZE)
    late = {("HEAD", ONE.path): replace(good(ONE.body), delay_before_head=0.1)}
    honest = {**late, ("GET", ONE.path): replace(good(ONE.body), declared_length="true" if room == SIZE else None)}
    hosts = {
        "liar.invalid": FakeTransport(script={("HEAD", ONE.path): good(ONE.body), ("GET", ONE.path): liar}),
        "honest.invalid": FakeTransport(script=honest),
    }
    async with open_loft(tmp_path, hosts, LoftPlan(max_cache=room)) as loft:
        await loft.library.hold(ONE.resource)
        assert loft.cached == (names(ONE) if room == SIZE else set())
        assert loft.store.index.total_bytes <= room
        loft.assert_no_leftovers()


async def test_a_lowered_target_is_met_after_the_next_scan(tmp_path: Path, no_threads: None) -> None:
    hosts = {"one.invalid": FakeTransport(FILES)}
    async with open_loft(tmp_path, hosts) as loft:
        await fetch(loft, ONE, TWO, THREE)
        await loft.store.save_access_times()
    async with open_loft(tmp_path, hosts, LoftPlan(max_cache=SIZE)) as loft:
        await loft.store.scan()
        await loft.store.space.trim()
        assert loft.cached == names(THREE)


async def test_the_index_is_rebuilt_with_the_order_of_last_use(tmp_path: Path, no_threads: None) -> None:
    hosts = {"one.invalid": FakeTransport(FILES)}
    async with open_loft(tmp_path, hosts) as loft:
        await fetch(loft, ONE, TWO, THREE, ONE)
        mtime = loft.store.path(ONE.resource).stat().st_mtime_ns
        await loft.store.save_access_times()
        assert loft.store.path(ONE.resource).stat().st_mtime_ns == mtime
    async with open_loft(tmp_path, hosts, LoftPlan(max_cache=3 * SIZE)) as loft:
        await loft.store.scan()
        assert list(loft.store.suspects()) == []
        assert loft.store.index.total_bytes == ONE.size + TWO.size + THREE.size
        await fetch(loft, FOUR)
        assert loft.cached == names(THREE, ONE, FOUR)


async def test_what_is_used_before_the_scan_counts_as_newer(tmp_path: Path, no_threads: None) -> None:
    hosts = {"one.invalid": FakeTransport(FILES)}
    async with open_loft(tmp_path, hosts) as loft:
        await fetch(loft, ONE, TWO, THREE)
        await loft.store.save_access_times()
    async with open_loft(tmp_path, hosts, LoftPlan(max_cache=3 * SIZE)) as loft:
        await fetch(loft, ONE)
        await loft.store.scan()
        await fetch(loft, FOUR)
        assert loft.cached == names(THREE, ONE, FOUR)


async def test_a_scan_leaves_files_of_others_alone(tmp_path: Path, no_threads: None) -> None:
    async with open_loft(tmp_path, {}, LoftPlan(max_cache=1)) as loft:
        foreign = tmp_path / "cache" / "artifact" / "README"
        foreign.parent.mkdir()
        foreign.write_text("an operator's note")
        (foreign.parent / "link").symlink_to(foreign)
        await loft.store.scan()
        await loft.store.space.trim()
        assert len(loft.store.index) == 0
        assert foreign.exists()


async def test_the_age_of_a_file_that_went_away_is_not_missed(tmp_path: Path, no_threads: None) -> None:
    async with open_loft(tmp_path, {"one.invalid": FakeTransport(FILES)}) as loft:
        await fetch(loft, ONE, TWO)
        loft.store.path(ONE.resource).unlink()
        os.utime(loft.store.path(TWO.resource), ns=(0, loft.store.path(TWO.resource).stat().st_mtime_ns))
        await loft.store.save_access_times()
        assert loft.store.path(TWO.resource).stat().st_atime_ns > 0


async def test_what_is_pinned_is_never_evicted(tmp_path: Path, no_threads: None) -> None:
    async with open_loft(tmp_path, {"one.invalid": FakeTransport(FILES)}, LoftPlan(max_cache=2 * SIZE)) as loft:
        loft.store.pin([ONE.resource])
        await fetch(loft, ONE, TWO, THREE, FOUR)
        assert loft.cached == names(ONE, FOUR)
        loft.store.pin([ONE.resource, FOUR.resource])
        await fetch(loft, TWO)  # no room is left that may be taken
        assert loft.cached == names(ONE, FOUR)

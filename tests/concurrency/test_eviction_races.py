"""Eviction beside everything else: what cannot be removed, what is being read, checked, moved or committed."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
import trio
from tests.disks import ScriptedDisk
from tests.fakes import FakeTransport
from tests.lofts import LoftPlan, files_in, open_loft, ranges_of, read_on, tarball
from trio.testing import wait_all_tasks_blocked

from pkgserver_trio.downloads.flight import FlightReader
from pkgserver_trio.keeper import keep
from pkgserver_trio.storage.open_file import StoredFile

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lofts import Loft, Tarball
    from trio.testing import MockClock

ONE, TWO, THREE, FOUR = (tarball(seed, 4000) for seed in ("one", "two", "three", "four"))
SIZE = max(made.size for made in (ONE, TWO, THREE, FOUR))
FILES = {made.path: made.body for made in (ONE, TWO, THREE, FOUR)}


def upstream() -> dict[str, FakeTransport]:
    return {"one.invalid": FakeTransport(FILES)}


def names(*tarballs: Tarball) -> set[str]:
    return {made.resource.name for made in tarballs}


async def fetch(loft: Loft, *wanted: Tarball) -> None:
    for made in wanted:
        assert (await loft.get(made.resource)).body == made.body
        await wait_all_tasks_blocked()
    loft.assert_no_leftovers()


class StickyDisk(ScriptedDisk):
    """Cannot remove the files in ``stuck``, by name in `cache/`."""

    def __init__(self) -> None:
        super().__init__()
        self.stuck: set[str] = set()
        self.attempts: list[str] = []

    def unlink(self, path: Path) -> None:
        if path.name in {name.rpartition("/")[2] for name in self.stuck}:
            self.attempts.append(path.name)
            raise PermissionError(errno.EPERM, "Operation not permitted")
        super().unlink(path)


async def test_a_file_that_cannot_be_removed_stays_in_the_books_and_is_served(tmp_path: Path, no_threads: None) -> None:
    disk = StickyDisk()
    async with open_loft(tmp_path, upstream(), LoftPlan(disk=disk, max_cache=2 * SIZE)) as loft:
        await fetch(loft, ONE, TWO)
        disk.stuck = names(ONE)
        await fetch(loft, THREE)  # ONE should have made room, so THREE finds none
        assert loft.cached == names(ONE, TWO)
        assert loft.store.index.total_bytes == ONE.size + TWO.size
        hit = await loft.library.obtain(ONE.resource)
        assert isinstance(hit, StoredFile)
        assert (await read_on(hit)).body == ONE.body
        await fetch(loft, THREE)  # now it is TWO's turn
        assert loft.cached == names(ONE, THREE)
        assert len(disk.attempts) == 1
        assert (loft.store.index.evicted_files, loft.store.index.evicted_bytes) == (1, TWO.size)


async def test_a_file_that_could_not_be_removed_is_tried_again_after_all_others(
    tmp_path: Path, no_threads: None
) -> None:
    disk = StickyDisk()
    async with open_loft(tmp_path, upstream(), LoftPlan(disk=disk)) as loft:
        await fetch(loft, ONE, TWO, THREE)
        disk.stuck = names(ONE, TWO)
        loft.store.space.max_cache_bytes = 2 * SIZE
        for cached in [names(ONE, TWO, THREE), names(ONE, TWO, THREE), names(ONE, TWO)]:
            await loft.store.space.trim()
            assert loft.cached == cached
        loft.store.space.max_cache_bytes = SIZE
        await loft.store.space.trim()
        assert loft.cached == names(ONE, TWO)
        disk.stuck = set()
        await loft.store.space.trim()
        assert loft.cached in (names(ONE), names(TWO))
        assert len(loft.store.index) == 1


async def test_a_read_only_disk_is_asked_once_a_turn_of_the_keeper(tmp_path: Path, autojump_clock: MockClock) -> None:
    disk = StickyDisk()
    async with open_loft(tmp_path, upstream(), LoftPlan(disk=disk)) as loft, trio.open_nursery() as nursery:
        for made in (ONE, TWO, THREE):
            await loft.library.hold(made.resource)
        disk.stuck = names(ONE, TWO, THREE)
        loft.store.space.max_cache_bytes = 2 * SIZE
        nursery.start_soon(keep, loft.library)
        await trio.sleep(601)
        assert len(disk.attempts) == 11  # at the scan, then each minute
        nursery.cancel_scope.cancel()


async def test_readers_of_every_kind_keep_a_file_that_is_evicted(tmp_path: Path, no_threads: None) -> None:
    async with open_loft(tmp_path, upstream(), LoftPlan(max_cache=SIZE)) as loft:
        miss = await loft.library.obtain(ONE.resource)
        assert isinstance(miss, FlightReader)
        await wait_all_tasks_blocked()
        hits = [(await loft.library.obtain(ONE.resource), span) for span in ranges_of(ONE.size)]
        await fetch(loft, TWO)
        assert loft.cached == names(TWO)
        assert (await read_on(miss)).body == ONE.body
        for hit, (start, stop) in hits:
            assert isinstance(hit, StoredFile)
            assert (await read_on(hit, start, stop)).body == ONE.body[start:stop]


async def test_a_file_used_while_it_is_evicted_is_whole_or_fetched_again(tmp_path: Path) -> None:
    host = upstream()
    disk = ScriptedDisk()
    async with open_loft(tmp_path, host, LoftPlan(disk=disk, max_cache=SIZE)) as loft:
        await loft.library.hold(ONE.resource)
        got: list[bytes] = []

        async def read_it() -> None:
            got.append((await loft.get(ONE.resource)).body)

        async with trio.open_nursery() as nursery:
            # From the evicting thread: a reader gets in between the choice of the victim and its removal.
            disk.hooks["unlink"] = lambda: trio.from_thread.run(read_it) if not got else None
            nursery.start_soon(loft.library.hold, TWO.resource)
        disk.hooks.clear()
        assert got == [ONE.body]
        await read_it()
        assert got == [ONE.body] * 2
        assert host["one.invalid"].requests("GET", ONE.path) == 2


async def test_a_suspect_that_is_evicted_while_it_is_hashed_is_fetched_again(tmp_path: Path) -> None:
    host = upstream()
    disk = ScriptedDisk()
    async with open_loft(tmp_path, host, LoftPlan(disk=disk)) as loft:
        await loft.library.hold(ONE.resource)
        loft.store.index.doubt(ONE.resource.pack())

        async def evict() -> None:
            loft.store.space.max_cache_bytes = 0
            await loft.store.space.trim()
            loft.store.space.max_cache_bytes = None

        def evict_once() -> None:
            del disk.hooks["read"]
            trio.from_thread.run(evict)

        disk.hooks["read"] = evict_once
        assert (await loft.get(ONE.resource)).body == ONE.body
        await loft.library.hold(ONE.resource)
        assert loft.cached == names(ONE)
        assert host["one.invalid"].requests("GET", ONE.path) == 2
        assert loft.store.index.total_bytes == ONE.size


@pytest.mark.parametrize("right", [True, False])
async def test_a_file_that_was_replaced_while_it_was_hashed_is_left_alone(tmp_path: Path, *, right: bool) -> None:
    disk = ScriptedDisk()
    async with open_loft(tmp_path, upstream(), LoftPlan(disk=disk)) as loft:
        await loft.library.hold(ONE.resource)
        path = loft.store.path(ONE.resource)
        path.write_bytes(b"wrong")

        def replace_once() -> None:
            del disk.hooks["read"]
            (tmp_path / "other").write_bytes(ONE.body if right else TWO.body)
            (tmp_path / "other").replace(path)

        disk.hooks["read"] = replace_once
        assert (await loft.get(ONE.resource)).body == ONE.body
        await loft.library.hold(ONE.resource)
        assert path.read_bytes() == ONE.body
        quarantined = set() if right else names(ONE)
        assert files_in(tmp_path / "quarantine") == quarantined
        for name in quarantined:
            assert (tmp_path / "quarantine" / name).read_bytes() == TWO.body


async def test_a_commit_beside_an_eviction_leaves_books_that_agree_with_the_disk(tmp_path: Path) -> None:
    made = [tarball(str(number), 4000) for number in range(12)]
    hosts = {"one.invalid": FakeTransport({one.path: one.body for one in made})}
    async with open_loft(tmp_path, hosts, LoftPlan(max_cache=3 * SIZE)) as loft:

        async def get(wanted: Tarball) -> None:
            assert (await loft.get(wanted.resource)).body == wanted.body

        for turn in range(3):
            async with trio.open_nursery() as nursery:
                for wanted in made[turn:] + made[:turn]:
                    nursery.start_soon(get, wanted)
        for flight in loft.downloads.flights:
            await flight.wait_settled()
        loft.assert_no_leftovers()
        sizes = {name: (tmp_path / "cache" / name).stat().st_size for name in loft.cached}
        assert loft.store.index.total_bytes == sum(sizes.values()) <= 3 * SIZE
        assert len(loft.store.index) == len(sizes)


async def test_a_cancelled_eviction_forgets_no_file_that_is_still_there(tmp_path: Path, no_threads: None) -> None:
    disk = ScriptedDisk()
    async with open_loft(tmp_path, upstream(), LoftPlan(disk=disk)) as loft:
        await fetch(loft, ONE, TWO)
        loft.store.space.max_cache_bytes = SIZE
        with trio.CancelScope() as scope:
            disk.hooks["free_bytes"] = scope.cancel
            await loft.store.space.trim()
        assert scope.cancelled_caught
        assert loft.store.index.total_bytes == ONE.size + TWO.size
        assert loft.cached == names(ONE, TWO)

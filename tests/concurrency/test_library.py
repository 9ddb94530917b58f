"""The only door: hits, misses, what is missing, inherited files, and files changed behind the store's back."""

from __future__ import annotations

import errno
import hashlib
import os
from typing import TYPE_CHECKING

import pytest
import trio
from structlog.testing import capture_logs
from tests.disks import ScriptedDisk
from tests.fakes import MISSING, Behaviour, FakeTransport, good
from tests.lofts import LoftPlan, files_in, open_loft, read_on, tarball
from trio.testing import wait_all_tasks_blocked

from pkgserver_trio.downloads.flight import Flight, FlightReader
from pkgserver_trio.errors import NotFoundError, StorageFailedError, UpstreamFailedError
from pkgserver_trio.keeper import keep
from pkgserver_trio.library import Sighting
from pkgserver_trio.storage.open_file import StoredFile

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lofts import Tarball
    from trio.testing import MockClock

WANTED, OTHER = tarball("wanted", 4000), tarball("other", 4000)
NAME = WANTED.resource.name


def upstream() -> FakeTransport:
    return FakeTransport({WANTED.path: WANTED.body})


def inherit(root: Path, made: Tarball, body: bytes) -> Path:
    """Lay a file into `cache/` as an earlier server would have left it."""
    path = root / "cache" / made.resource.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return path


async def test_a_miss_becomes_a_hit(tmp_path: Path, no_threads: None) -> None:
    async with open_loft(tmp_path, {"one.invalid": upstream()}) as loft:
        miss = await loft.library.obtain(WANTED.resource)
        assert isinstance(miss, FlightReader)
        assert (await read_on(miss)).body == WANTED.body
        await wait_all_tasks_blocked()
        hit = await loft.library.obtain(WANTED.resource)
        assert isinstance(hit, StoredFile)
        assert (hit.size_bytes, hit.mtime_seconds) == (miss.size_bytes, miss.mtime_seconds)
        assert (await read_on(hit, 10, 20)).body == WANTED.body[10:20]


async def test_who_wakes_when_the_flight_is_over_gets_the_file(
    tmp_path: Path, no_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_reader = Flight.open_reader

    async def open_late(flight: Flight) -> FlightReader | None:
        await flight.wait_settled()
        return await open_reader(flight)

    monkeypatch.setattr(Flight, "open_reader", open_late)
    host = upstream()
    async with open_loft(tmp_path, {"one.invalid": host}) as loft:
        hit = await loft.library.obtain(WANTED.resource)
        assert isinstance(hit, StoredFile)
        assert (await read_on(hit)).body == WANTED.body
        assert host.requests("GET", WANTED.path) == 1


@pytest.mark.parametrize("ask", ["obtain", "sight"])
async def test_missing_everywhere_is_remembered_for_its_time_and_no_longer(
    tmp_path: Path, autojump_clock: MockClock, ask: str
) -> None:
    host = FakeTransport()
    async with open_loft(tmp_path, {"one.invalid": host}) as loft:

        async def is_missing() -> int:
            with pytest.raises(NotFoundError):
                await getattr(loft.library, ask)(WANTED.resource)
            return host.requests("HEAD", WANTED.path)

        assert await is_missing() == 1
        host.files = {WANTED.path: WANTED.body}
        await trio.sleep(9.9)
        assert await is_missing() == 1
        await trio.sleep(0.2)
        assert (await loft.get(WANTED.resource)).body == WANTED.body
        assert host.requests("HEAD", WANTED.path) == 2


async def test_what_is_missing_is_asked_for_again_after_a_publication(tmp_path: Path, no_threads: None) -> None:
    host = FakeTransport()
    async with open_loft(tmp_path, {"one.invalid": host}) as loft:
        with pytest.raises(NotFoundError):
            await loft.get(WANTED.resource)
        host.files = {WANTED.path: WANTED.body}
        loft.library.welcome([])
        assert (await loft.get(WANTED.resource)).body == WANTED.body


async def test_another_failure_is_remembered_for_a_short_pause(tmp_path: Path, autojump_clock: MockClock) -> None:
    host = FakeTransport(script={("HEAD", WANTED.path): [Behaviour(status=500), good(WANTED.body)]})
    host.files = {WANTED.path: WANTED.body}
    async with open_loft(tmp_path, {"one.invalid": host}) as loft:
        for _ in range(3):
            with pytest.raises(UpstreamFailedError, match="status 500"):
                await loft.get(WANTED.resource)
            with pytest.raises(UpstreamFailedError, match="status 500"):
                await loft.library.sight(WANTED.resource)
        assert host.requests("HEAD", WANTED.path) == 1
        await trio.sleep(0.6)
        assert (await loft.get(WANTED.resource)).body == WANTED.body


async def test_a_sighting_asks_and_downloads_nothing(tmp_path: Path, no_threads: None) -> None:
    host = upstream()
    async with open_loft(tmp_path, {"one.invalid": host}) as loft:
        assert await loft.library.sight(WANTED.resource) == Sighting(
            cached=False, size_bytes=WANTED.size, mtime_seconds=None
        )
        assert host.requests("GET", WANTED.path) == 0
        await loft.library.hold(WANTED.resource)
        seen = await loft.library.sight(WANTED.resource)
        assert (seen.cached, seen.size_bytes) == (True, WANTED.size)
        assert host.requests("HEAD", WANTED.path) == 2


async def test_an_inherited_file_is_verified_once_and_then_served(tmp_path: Path, no_threads: None) -> None:
    inherit(tmp_path, WANTED, WANTED.body)
    host = FakeTransport(script=lambda _: MISSING)
    for _ in range(2):
        disk = ScriptedDisk()
        async with open_loft(tmp_path, {"one.invalid": host}, LoftPlan(disk=disk)) as loft:
            await loft.store.scan()
            source = await loft.library.obtain(WANTED.resource)
            assert isinstance(source, StoredFile)
            assert (await read_on(source)).body == WANTED.body
    assert host.seen == []


@pytest.mark.parametrize("scanned", [False, True])
@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        (OTHER.body, f"another tree, {OTHER.resource.tree_hash}"),
        (WANTED.body[:-1], "no tarball: "),
        (b"", "no tarball: "),
        (b"<html>", "no tarball: "),
        (WANTED.body + b"x", "no tarball: "),
    ],
)
async def test_a_damaged_inherited_file_is_quarantined_and_fetched_again(
    tmp_path: Path, no_threads: None, wrong: bytes, fault: str, *, scanned: bool
) -> None:
    inherit(tmp_path, WANTED, wrong)
    async with open_loft(tmp_path, {"one.invalid": upstream()}) as loft:
        if scanned:
            await loft.store.scan()
            assert list(loft.store.suspects()) == [WANTED.resource]
        with capture_logs() as lines:
            assert (await loft.get(WANTED.resource)).body == WANTED.body
        await wait_all_tasks_blocked()
        (told,) = (line for line in lines if line["event"] == "wrong file in the cache, to quarantine")
        assert told["resource"] == NAME
        assert told["fault"].startswith(fault)
        assert (tmp_path / "quarantine" / NAME).read_bytes() == wrong
        assert (tmp_path / "cache" / NAME).read_bytes() == WANTED.body
        assert list(loft.store.suspects()) == []


async def test_a_file_that_was_deleted_is_fetched_again(tmp_path: Path, no_threads: None) -> None:
    async with open_loft(tmp_path, {"one.invalid": upstream()}) as loft:
        await loft.library.hold(WANTED.resource)
        loft.store.path(WANTED.resource).unlink()
        assert (await loft.get(WANTED.resource)).body == WANTED.body
        await wait_all_tasks_blocked()
        assert loft.cached == {NAME}
        assert loft.store.index.total_bytes == WANTED.size


@pytest.mark.parametrize("size", [0, 1000])
async def test_a_file_that_was_truncated_is_fetched_again(tmp_path: Path, no_threads: None, size: int) -> None:
    async with open_loft(tmp_path, {"one.invalid": upstream()}) as loft:
        await loft.library.hold(WANTED.resource)
        os.truncate(loft.store.path(WANTED.resource), size)
        assert (await loft.get(WANTED.resource)).body == WANTED.body
        await wait_all_tasks_blocked()
        assert (tmp_path / "cache" / NAME).read_bytes() == WANTED.body
        assert (tmp_path / "quarantine" / NAME).stat().st_size == size


async def test_the_sha256_is_that_of_the_file_whether_hit_or_miss(tmp_path: Path, no_threads: None) -> None:
    expected = hashlib.sha256(WANTED.body).hexdigest()
    async with open_loft(tmp_path, {"one.invalid": upstream()}) as loft:
        for _ in range(3):  # arriving, computed, remembered
            assert await loft.library.sha256(WANTED.resource) == expected
            await wait_all_tasks_blocked()


async def test_the_sha256_of_what_cannot_be_kept_is_that_of_the_download(tmp_path: Path, no_threads: None) -> None:
    disk = ScriptedDisk()
    async with open_loft(tmp_path, {"one.invalid": upstream()}, LoftPlan(disk=disk, max_cache=1)) as loft:
        assert await loft.library.sha256(WANTED.resource) == hashlib.sha256(WANTED.body).hexdigest()
        assert loft.cached == set()


async def test_holding_fails_when_the_commit_fails(tmp_path: Path, no_threads: None) -> None:
    disk = ScriptedDisk()
    disk.failures["rename"] = errno.EIO
    async with open_loft(tmp_path, {"one.invalid": upstream()}, LoftPlan(disk=disk)) as loft:
        with pytest.raises(StorageFailedError):
            await loft.library.hold(WANTED.resource)


async def test_an_unreadable_file_stops_no_inspection_and_is_fetched_again(tmp_path: Path, no_threads: None) -> None:
    inherit(tmp_path, OTHER, OTHER.body)
    unreadable = inherit(tmp_path, WANTED, b"")
    async with open_loft(tmp_path, {"one.invalid": upstream()}) as loft:
        await loft.store.scan()
        unreadable.unlink()
        unreadable.mkdir()  # opens, and then fails every read
        await loft.library.inspect_suspects()
        assert list(loft.store.suspects()) == [WANTED.resource]
        assert (await loft.get(WANTED.resource)).body == WANTED.body  # and cannot be kept
        unreadable.rmdir()
        await loft.library.hold(WANTED.resource)
        assert loft.cached == {NAME, OTHER.resource.name}


async def test_the_keeper_inspects_and_saves_and_trims(tmp_path: Path, autojump_clock: MockClock) -> None:
    old = inherit(tmp_path, WANTED, WANTED.body)
    inherit(tmp_path, OTHER, b"damaged")
    async with open_loft(tmp_path, {}) as loft, trio.open_nursery() as nursery:
        os.utime(old, (0, 0))
        nursery.start_soon(keep, loft.library)
        await trio.sleep(1)
        assert list(loft.store.suspects()) == []
        assert files_in(tmp_path / "quarantine") == {OTHER.resource.name}
        await trio.sleep(60)
        assert old.stat().st_atime_ns > 0
        loft.store.space.max_cache_bytes = 1
        await trio.sleep(60)
        assert loft.cached == set()
        nursery.cancel_scope.cancel()


async def test_the_keeper_outlives_a_failing_disk(tmp_path: Path, autojump_clock: MockClock) -> None:
    disk = ScriptedDisk()
    disk.failures["free_bytes"] = errno.EIO
    async with open_loft(tmp_path, {}, LoftPlan(disk=disk)) as loft, trio.open_nursery() as nursery:
        nursery.start_soon(keep, loft.library)
        await trio.sleep(600)
        assert disk.calls.count("free_bytes") >= 9
        nursery.cancel_scope.cancel()


async def test_the_keeper_indexes_the_cache_once_the_disk_lets_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    inherit(tmp_path, WANTED, WANTED.body)
    disk = ScriptedDisk()
    disk.failures["files"] = errno.EIO
    async with open_loft(tmp_path, {}, LoftPlan(disk=disk)) as loft, trio.open_nursery() as nursery:
        nursery.start_soon(keep, loft.library)
        await trio.sleep(1)
        assert len(loft.store.index) == 0
        del disk.failures["files"]
        await trio.sleep(60)
        assert len(loft.store.index) == 1
        nursery.cancel_scope.cancel()

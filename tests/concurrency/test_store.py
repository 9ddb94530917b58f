"""A write to the cache as a transaction: its order, its failures at every step, and its cancellation there."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
import trio
from tests.disks import ScriptedDisk
from tests.fakes import Behaviour, FakeTransport, Pieces
from tests.lofts import LoftPlan, files_in, open_loft, read_on, tarball
from tests.unit.tarballs import AMPLE
from trio.testing import wait_all_tasks_blocked

from pkgserver_trio.errors import ResourceUnavailableError, StorageFailedError, StorageFullError
from pkgserver_trio.storage.hashing import Hashing

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lofts import Loft

    from pkgserver_trio.storage.hashing import FileHasher
    from pkgserver_trio.tarballs.tree_hash import TreeHashes

WANTED = tarball("wanted", 4000)
PIECES = Behaviour(body=WANTED.body, pieces=Pieces(size=1000))
MTIME_SECONDS = 1_500_000_000
COMMIT = ["set_mtime", "fsync", "rename", "fsync_folder"]
FULL = pytest.mark.parametrize(
    ("code", "error"),
    [
        (errno.ENOSPC, StorageFullError),
        (errno.EDQUOT, StorageFullError),
        (errno.EFBIG, StorageFullError),
        (errno.EIO, StorageFailedError),
        (errno.EROFS, StorageFailedError),
    ],
)


def upstream() -> FakeTransport:
    return FakeTransport(script=lambda _: PIECES)


class NotingHashing(Hashing):
    """Notes in a disk's calls when the tree hash is known."""

    def __init__(self, disk: ScriptedDisk) -> None:
        super().__init__(AMPLE)
        self._disk = disk

    async def finish(self, hasher: FileHasher) -> TreeHashes:
        hashes = await super().finish(hasher)
        self._disk.calls.append("verified")
        return hashes


async def test_a_commit_is_durable_before_it_is_visible_and_verified_before_both(
    tmp_path: Path, no_threads: None
) -> None:
    disk = ScriptedDisk()
    plan = LoftPlan(disk=disk, hashing=NotingHashing(disk))
    async with open_loft(tmp_path, {"one.invalid": upstream()}, plan) as loft:
        await loft.library.hold(WANTED.resource)
    assert disk.steps == ["create", "free_bytes", "write", "free_bytes", "write", "verified", *COMMIT]


async def test_a_commit_keeps_the_time_that_the_flight_told_its_readers(tmp_path: Path, no_threads: None) -> None:
    async with open_loft(tmp_path, {"one.invalid": upstream()}) as loft:
        source = await loft.library.obtain(WANTED.resource)
        told = source.mtime_seconds
        assert (await read_on(source)).body == WANTED.body
        await wait_all_tasks_blocked()
        stored = loft.store.open_verified(WANTED.resource)
        assert stored is not None
        assert (stored.mtime_seconds, stored.size_bytes) == (told, WANTED.size)
        stored.close()


@FULL
@pytest.mark.parametrize("step", ["create", "free_bytes", "write"])
async def test_a_disk_that_fails_before_anything_was_read_is_the_readers_error(
    tmp_path: Path, no_threads: None, step: str, code: int, error: type[ResourceUnavailableError]
) -> None:
    disk = ScriptedDisk()
    disk.failures[step] = code
    async with open_loft(tmp_path, {"one.invalid": upstream()}, LoftPlan(disk=disk)) as loft:
        with pytest.raises(ResourceUnavailableError) as caught:
            await loft.get(WANTED.resource)
        assert type(caught.value) is error
        await assert_all_is_well_again(loft, disk)


@FULL
@pytest.mark.parametrize("step", COMMIT)
async def test_a_commit_that_fails_says_so_and_leaves_nothing_behind(
    tmp_path: Path, no_threads: None, step: str, code: int, error: type[ResourceUnavailableError]
) -> None:
    disk = ScriptedDisk()
    disk.failures[step] = code
    async with open_loft(tmp_path, {"one.invalid": upstream()}, LoftPlan(disk=disk)) as loft:
        with loft.store.reserve(WANTED.resource) as reservation:
            await reservation.write(WANTED.body)
            with pytest.raises(ResourceUnavailableError) as caught:
                await reservation.commit(MTIME_SECONDS)
        assert type(caught.value) is error
        await assert_all_is_well_again(loft, disk)


@pytest.mark.parametrize("step", COMMIT)
async def test_a_failing_commit_takes_nothing_from_the_readers(tmp_path: Path, no_threads: None, step: str) -> None:
    disk = ScriptedDisk()
    disk.failures[step] = errno.ENOSPC
    async with open_loft(tmp_path, {"one.invalid": upstream()}, LoftPlan(disk=disk)) as loft:
        assert (await loft.get(WANTED.resource)).body == WANTED.body
        await wait_all_tasks_blocked()
        await assert_all_is_well_again(loft, disk)


async def assert_all_is_well_again(loft: Loft, disk: ScriptedDisk) -> None:
    """Nothing is left of a failure, and once the disk works the resource is kept."""
    loft.assert_no_leftovers()
    assert loft.cached == set()
    assert loft.store.index.total_bytes == 0
    disk.failures.clear()
    assert (await loft.get(WANTED.resource)).body == WANTED.body
    await wait_all_tasks_blocked()
    assert loft.cached == {WANTED.resource.name}
    loft.assert_no_leftovers()


async def test_a_disk_that_fails_later_breaks_the_answers_off(tmp_path: Path, no_threads: None) -> None:
    disk = ScriptedDisk()
    gate = trio.Event()
    gated = Behaviour(body=WANTED.body, pieces=Pieces(size=2000, release=gate))
    async with open_loft(tmp_path, {"a.invalid": FakeTransport(script=lambda _: gated)}, LoftPlan(disk=disk)) as loft:
        source = await loft.library.obtain(WANTED.resource)
        assert await source.read(0, WANTED.size) == WANTED.body[:1999]
        disk.failures["write"] = errno.ENOSPC
        gate.set()
        reading = await read_on(source, 1999)
        assert (reading.body, reading.broken) == (b"", True)
        await assert_all_is_well_again(loft, disk)


@pytest.mark.parametrize("step", ["create", "free_bytes", "write", *COMMIT])
async def test_a_shutdown_at_any_step_leaves_a_whole_file_or_none(tmp_path: Path, no_threads: None, step: str) -> None:
    disk = ScriptedDisk()
    async with (
        trio.open_nursery() as flights,
        open_loft(tmp_path, {"one.invalid": upstream()}, LoftPlan(disk=disk, nursery=flights)) as loft,
    ):
        disk.hooks[step] = flights.cancel_scope.cancel
        loft.downloads.join(WANTED.resource)
        await wait_all_tasks_blocked()
    loft.assert_no_leftovers()
    assert step in disk.calls
    whole = {WANTED.resource.name} if step in {"rename", "fsync_folder"} else set()
    assert loft.cached == whole
    for name in whole:
        assert (tmp_path / "cache" / name).read_bytes() == WANTED.body


async def test_a_released_reservation_leaves_nothing(tmp_path: Path, no_threads: None) -> None:
    async with open_loft(tmp_path, {}) as loft:
        with loft.store.reserve(WANTED.resource) as reservation:
            await reservation.write(b"some bytes")
            assert len(files_in(tmp_path / "temp")) == 1
        loft.assert_no_leftovers()


async def test_a_restarted_reservation_keeps_only_what_came_after(tmp_path: Path, no_threads: None) -> None:
    async with open_loft(tmp_path, {}) as loft:
        with loft.store.reserve(WANTED.resource) as reservation:
            await reservation.write(b"wrong, and longer than what is right" * 500)
            await reservation.cut(0)
            await reservation.write(WANTED.body)
            await reservation.commit(MTIME_SECONDS)
        path = loft.store.path(WANTED.resource)
        assert path.read_bytes() == WANTED.body
        assert path.stat().st_mtime_ns == MTIME_SECONDS * 1_000_000_000
        assert path.stat().st_mode & 0o777 == 0o644 & ~current_umask()


def current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


async def test_a_file_is_closed_by_its_last_holder(tmp_path: Path, no_threads: None) -> None:
    async with open_loft(tmp_path, {}) as loft, trio.open_nursery() as _:
        with loft.store.reserve(WANTED.resource) as reservation:
            await reservation.write(WANTED.body)
            reader = reservation.file.hold()
        assert not reader.closed
        assert await reader.read(0, WANTED.size) == WANTED.body
        reader.release()
        assert reader.closed
        with pytest.raises(ValueError, match="closed"):
            reader.hold()

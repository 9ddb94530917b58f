"""Files and folders that change, vanish or fail behind the store's back: noticed, fetched again, never served wrong."""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from tests.disks import ScriptedDisk
from tests.fakes import FakeTransport
from tests.lofts import LoftPlan, files_in, open_loft, read_on, tarball
from trio.testing import wait_all_tasks_blocked

from pkgserver_trio.errors import StorageFailedError
from pkgserver_trio.storage.open_file import StoredFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.lofts import Loft

WANTED, OTHER = tarball("wanted", 4000), tarball("other", 4000)
NAME = WANTED.resource.name
BROKEN = pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ESTALE])
SCARCE = pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])


def upstream() -> FakeTransport:
    return FakeTransport({made.path: made.body for made in (WANTED, OTHER)})


async def assert_comes_through(loft: Loft) -> None:
    """The resource is answered with right bytes, kept, and a hit from then on."""
    assert (await loft.get(WANTED.resource)).body == WANTED.body
    await wait_all_tasks_blocked()
    hit = await loft.library.obtain(WANTED.resource)
    assert isinstance(hit, StoredFile)
    assert (await read_on(hit)).body == WANTED.body
    assert loft.store.path(WANTED.resource).read_bytes() == WANTED.body
    assert list(loft.store.suspects()) == []
    loft.assert_no_leftovers()


@pytest.mark.parametrize("nudge_ns", [1, 1_000_000_000, -86_400_000_000_000, 365 * 86_400_000_000_000])
async def test_a_file_of_the_same_size_and_another_time_is_hashed_before_it_is_served(
    tmp_path: Path, no_threads: None, nudge_ns: int
) -> None:
    host = upstream()
    async with open_loft(tmp_path, {"one.invalid": host}) as loft:
        await loft.library.hold(WANTED.resource)
        path = loft.store.path(WANTED.resource)
        mtime_ns = path.stat().st_mtime_ns
        for body in (WANTED.body, WANTED.body[:-1] + b"x"):
            path.write_bytes(body)
            os.utime(path, ns=(0, mtime_ns + nudge_ns))
            await assert_comes_through(loft)
            mtime_ns = path.stat().st_mtime_ns
        assert host.requests("GET", WANTED.path) == 2
        assert files_in(tmp_path / "quarantine") == {NAME}


async def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path, no_threads: None) -> None:
    async with open_loft(tmp_path, {"one.invalid": upstream()}) as loft:
        path = loft.store.path(WANTED.resource)
        path.parent.mkdir(parents=True)
        os.mkfifo(path)
        await assert_comes_through(loft)


@BROKEN
async def test_a_file_that_fails_while_it_is_read_is_fetched_again(tmp_path: Path, no_threads: None, code: int) -> None:
    disk, host = ScriptedDisk(), upstream()
    async with open_loft(tmp_path, {"one.invalid": host}, LoftPlan(disk=disk)) as loft:
        await loft.library.hold(WANTED.resource)
        hit = await loft.library.obtain(WANTED.resource)
        assert await hit.read(0, 100) == WANTED.body[:100]
        disk.failures["read"] = code
        reading = await read_on(hit, 100)
        assert (reading.body, reading.broken) == (b"", True)
        assert list(loft.store.suspects()) == [WANTED.resource]
        assert loft.store.index.total_bytes == WANTED.size  # it still takes space
        # The copy on disk fails again when it is hashed; the new one does not.
        disk.hooks["create"] = disk.failures.clear
        await assert_comes_through(loft)
        assert host.requests("GET", WANTED.path) == 2


async def test_a_file_that_can_be_read_again_is_hashed_and_served(tmp_path: Path, no_threads: None) -> None:
    disk, host = ScriptedDisk(), upstream()
    async with open_loft(tmp_path, {"one.invalid": host}, LoftPlan(disk=disk)) as loft:
        await loft.library.hold(WANTED.resource)
        disk.failures["read"] = errno.EIO
        assert (await read_on(await loft.library.obtain(WANTED.resource))).broken
        disk.failures.clear()
        await assert_comes_through(loft)
        assert host.requests("GET", WANTED.path) == 1


@BROKEN
@pytest.mark.parametrize("step", ["open_for_reading", "stat"])
async def test_a_file_that_cannot_be_opened_is_fetched_again(
    tmp_path: Path, no_threads: None, step: str, code: int
) -> None:
    disk, host = ScriptedDisk(), upstream()
    async with open_loft(tmp_path, {"one.invalid": host}, LoftPlan(disk=disk)) as loft:
        await loft.library.hold(WANTED.resource)
        disk.failures[step] = code
        disk.hooks["create"] = disk.failures.clear
        await assert_comes_through(loft)
        assert host.requests("GET", WANTED.path) == 2


@SCARCE
@pytest.mark.parametrize("known", [True, False])
async def test_a_server_short_of_descriptors_drops_nothing(
    tmp_path: Path, no_threads: None, code: int, *, known: bool
) -> None:
    disk, host = ScriptedDisk(), upstream()
    async with open_loft(tmp_path, {"one.invalid": host}, LoftPlan(disk=disk)) as loft:
        await loft.library.hold(WANTED.resource)
        if not known:
            loft.store.index.drop(WANTED.resource.pack())  # as before the scan of a start
        disk.failures["open_for_reading"] = code
        with pytest.raises(StorageFailedError):
            await loft.get(WANTED.resource)
        disk.failures.clear()
        await assert_comes_through(loft)
        assert host.requests("GET", WANTED.path) == 1


@SCARCE
async def test_a_lack_of_memory_casts_no_doubt_on_a_file(tmp_path: Path, no_threads: None, code: int) -> None:
    disk, host = ScriptedDisk(), upstream()
    async with open_loft(tmp_path, {"one.invalid": host}, LoftPlan(disk=disk)) as loft:
        await loft.library.hold(WANTED.resource)
        disk.failures["read"] = code
        assert (await read_on(await loft.library.obtain(WANTED.resource))).broken
        assert list(loft.store.suspects()) == []
        loft.store.index.doubt(WANTED.resource.pack())
        with pytest.raises(StorageFailedError):
            await loft.get(WANTED.resource)
        await loft.library.inspect_suspects()
        assert list(loft.store.suspects()) == [WANTED.resource]
        assert host.requests("GET", WANTED.path) == 1


@pytest.mark.parametrize("gone", ["", "temp", "cache", "cache/artifact", f"cache/{NAME}"])
async def test_what_vanished_is_made_again(tmp_path: Path, no_threads: None, gone: str) -> None:
    async with open_loft(tmp_path, {"one.invalid": upstream()}) as loft:
        await loft.library.hold(WANTED.resource)
        path = tmp_path / gone
        path.unlink() if path.is_file() else shutil.rmtree(path)
        await assert_comes_through(loft)
        assert (await loft.get(OTHER.resource)).body == OTHER.body
        await wait_all_tasks_blocked()
        assert loft.cached == {NAME, OTHER.resource.name}
        assert loft.store.index.total_bytes == WANTED.size + OTHER.size


async def test_a_read_only_disk_serves_what_it_holds_and_recovers(tmp_path: Path, no_threads: None) -> None:
    disk = ScriptedDisk()
    async with open_loft(tmp_path, {"one.invalid": upstream()}, LoftPlan(disk=disk)) as loft:
        await loft.library.hold(OTHER.resource)
        disk.failures = dict.fromkeys(["create", "write", "rename", "unlink", "set_mtime", "fsync"], errno.EROFS)
        assert (await loft.get(OTHER.resource)).body == OTHER.body
        with pytest.raises(StorageFailedError, match="Read-only file system"):
            await loft.get(WANTED.resource)
        loft.assert_no_leftovers()
        disk.failures.clear()
        await assert_comes_through(loft)


async def test_a_temporary_file_that_cannot_be_removed_fails_nobody(tmp_path: Path, no_threads: None) -> None:
    disk = ScriptedDisk()
    async with open_loft(tmp_path, {"one.invalid": upstream()}, LoftPlan(disk=disk)) as loft:
        disk.failures = {"fsync": errno.EIO, "unlink": errno.EIO}
        assert (await loft.get(WANTED.resource)).body == WANTED.body
        await wait_all_tasks_blocked()
        assert loft.store.reservations == set()
        disk.failures.clear()
        shutil.rmtree(tmp_path / "temp")
        await assert_comes_through(loft)


async def test_a_wrong_file_that_cannot_be_moved_is_not_served_either(tmp_path: Path, no_threads: None) -> None:
    disk = ScriptedDisk()
    async with open_loft(tmp_path, {"one.invalid": upstream()}, LoftPlan(disk=disk)) as loft:
        await loft.library.hold(WANTED.resource)
        loft.store.path(WANTED.resource).write_bytes(OTHER.body)
        disk.failures["rename"] = errno.EPERM
        assert (await loft.get(WANTED.resource)).body == WANTED.body
        await wait_all_tasks_blocked()
        disk.failures.clear()
        await assert_comes_through(loft)


def fail_reads(disk: ScriptedDisk, loft: Loft) -> None:
    disk.failures["read"] = errno.EIO


def shorten(disk: ScriptedDisk, loft: Loft) -> None:
    disk.hooks["read"] = lambda: os.truncate(loft.store.path(WANTED.resource), 100)


@pytest.mark.parametrize("harm", [fail_reads, shorten])
async def test_a_sha256_is_that_of_the_whole_file_or_an_error(
    tmp_path: Path, no_threads: None, harm: Callable[[ScriptedDisk, Loft], None]
) -> None:
    disk = ScriptedDisk()
    async with open_loft(tmp_path, {"one.invalid": upstream()}, LoftPlan(disk=disk)) as loft:
        await loft.library.hold(WANTED.resource)
        harm(disk, loft)
        with pytest.raises(StorageFailedError):
            await loft.library.sha256(WANTED.resource)
        disk.failures.clear()
        disk.hooks.clear()
        await assert_comes_through(loft)


async def test_a_close_that_fails_fails_nobody(tmp_path: Path, no_threads: None) -> None:
    async with open_loft(tmp_path, {"one.invalid": upstream()}) as loft:
        await loft.library.hold(WANTED.resource)
        hit = await loft.library.obtain(WANTED.resource)
        assert isinstance(hit, StoredFile)
        os.close(hit.file.fd)
        hit.close()
        await assert_comes_through(loft)

"""The verification beside a running store: what becomes of the index, what is told, and what it withstands."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
import trio
from structlog.testing import capture_logs
from tests.fakes import FakeTransport
from tests.lofts import Loft, LoftPlan, files_in, open_loft, tarball
from tests.unit.tarballs import AMPLE
from trio.testing import wait_all_tasks_blocked

from pkgserver_trio.storage.disk import Disk
from pkgserver_trio.storage.hashing import Hashing
from pkgserver_trio.verifying import Verifying

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.lofts import Tarball

    from pkgserver_trio.storage.open_file import OpenFile
    from pkgserver_trio.tarballs.tree_hash import TreeHashes

RIGHT, WRONG, FOREIGN = tarball("right", 3000), tarball("wrong", 4000), tarball("foreign", 2000)


class FussyDisk(Disk):
    """Has no descriptors left while `short`."""

    short = False

    def open_for_reading(self, path: Path) -> int:
        if self.short:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().open_for_reading(path)


class GatedHashing(Hashing):
    """Hashes once its gate is open."""

    def __init__(self) -> None:
        super().__init__(AMPLE, threads=1)
        self.gate = trio.Event()

    async def whole(self, file: OpenFile, size: int) -> TreeHashes:
        await self.gate.wait()
        return await super().whole(file, size)


@pytest.fixture
async def loft(tmp_path: Path, no_threads: None) -> AsyncIterator[Loft]:
    files = {made.path: made.body for made in (RIGHT, WRONG)}
    async with open_loft(tmp_path, {"a": FakeTransport(files)}, LoftPlan(disk=FussyDisk())) as loft:
        for made in (RIGHT, WRONG):
            await loft.library.hold(made.resource)
        yield loft


def lay(loft: Loft, made: Tarball, body: bytes) -> None:
    path = loft.store.path(made.resource)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)


async def verify(verifying: Verifying) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(verifying.run)
        assert verifying.begin()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_what_is_wrong_leaves_the_index_and_what_is_right_is_trusted(loft: Loft) -> None:
    stat = loft.store.path(WRONG.resource).stat()
    damaged = WRONG.body[:-1] + bytes([WRONG.body[-1] ^ 1])
    lay(loft, WRONG, damaged)  # with the size and time that were verified, as a failing disk does
    os.utime(loft.store.path(WRONG.resource), ns=(stat.st_atime_ns, stat.st_mtime_ns))
    lay(loft, FOREIGN, FOREIGN.body)
    verifying = Verifying(loft.store, Hashing(AMPLE, threads=1))
    await verify(verifying)
    index = loft.store.index
    assert [index.trusts(made.resource.pack()) for made in (RIGHT, WRONG, FOREIGN)] == [True, False, True]
    assert index.total_bytes == RIGHT.size + FOREIGN.size
    assert files_in(loft.store.root / "quarantine") == {WRONG.resource.name}
    report = verifying.report()
    assert (report["status"], report["files"], report["wrong"], report["moved_to_quarantine"]) == ("done", 3, 1, 1)
    assert (report["files_in_all"], report["size_bytes"]) == (3, report["size_bytes_in_all"])
    (finding,) = report["findings"]
    assert finding.startswith(f"wrong, moved to quarantine: {WRONG.resource.name}: ")
    reading = await loft.get(WRONG.resource)
    assert reading.body == WRONG.body


async def test_before_the_first_one_there_is_nothing_to_tell(loft: Loft) -> None:
    report = Verifying(loft.store, Hashing(AMPLE)).report()
    assert (report["status"], report["began"], report["seconds"], report["findings"]) == ("never", None, None, [])


async def test_one_runs_at_a_time_and_the_next_begins_anew(loft: Loft) -> None:
    hashing = GatedHashing()
    verifying = Verifying(loft.store, hashing)
    lay(loft, WRONG, b"wrong")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(verifying.run)
        assert verifying.begin()
        await wait_all_tasks_blocked()
        assert not verifying.begin()
        assert (verifying.report()["status"], verifying.report()["files"]) == ("running", 0)
        hashing.gate.set()
        await wait_all_tasks_blocked()
        assert (verifying.report()["status"], verifying.report()["files"]) == ("done", 2)
        assert verifying.begin()
        assert (verifying.report()["status"], verifying.report()["findings"]) == ("running", [])
        await wait_all_tasks_blocked()
        assert (verifying.report()["status"], verifying.report()["wrong"]) == ("done", 0)
        nursery.cancel_scope.cancel()


async def test_the_log_says_how_far_it_is_now_and_then(loft: Loft) -> None:
    for number in range(30):
        made = tarball(f"{number}", 100)
        lay(loft, made, made.body)
    with capture_logs() as lines:
        await verify(Verifying(loft.store, Hashing(AMPLE)))
    events = [line["event"] for line in lines]
    assert (events[0], events[-1]) == ("verifying the cache", "cache verified")
    assert 2 <= events.count("verifying") <= 10


async def test_a_shortage_ends_it_with_the_reason_and_the_next_one_is_better(loft: Loft) -> None:
    disk = loft.store.disk
    assert isinstance(disk, FussyDisk)
    verifying = Verifying(loft.store, Hashing(AMPLE))
    disk.short = True
    await verify(verifying)
    assert (verifying.report()["status"], verifying.report()["error"]) == ("failed", "[Errno 24] Too many open files")
    disk.short = False
    await verify(verifying)
    assert (verifying.report()["status"], verifying.report()["error"]) == ("done", None)
    assert loft.cached == {RIGHT.resource.name, WRONG.resource.name}

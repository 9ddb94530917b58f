"""The verification of a whole cache: what it finds, what it moves, and what it leaves to a server beside it."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import trio
from tests.disks import rot
from tests.fakes import FakeTransport
from tests.lofts import files_in, open_loft, registry_of, tarball
from tests.unit.tarballs import AMPLE
from trio.testing import wait_all_tasks_blocked

from pkgserver_trio.storage.cache_files import CacheFiles
from pkgserver_trio.storage.disk import Disk, warn_of
from pkgserver_trio.storage.findings import Tally
from pkgserver_trio.storage.hashing import Hashing
from pkgserver_trio.storage.verification import Repair, Verification
from pkgserver_trio.storage.verified import Verified
from pkgserver_trio.tarballs.stream import TarLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.lofts import Tarball

    from pkgserver_trio.storage.disk import FileStat
    from pkgserver_trio.storage.open_file import OpenFile
    from pkgserver_trio.tarballs.tree_hash import TreeHashes

RIGHT, WANTED, OTHER = tarball("right", 3000), tarball("wanted", 4000), tarball("other", 4000)
REGISTRY = registry_of("23338594-aafe-5451-b93e-139f81909106", "registry")
NAME = WANTED.resource.name
SHA256 = "ab" * 32


class HookedDisk(Disk):
    """Calls its hooks before the calls of their names; they may raise."""

    def __init__(self, **hooks: Callable[[], object]) -> None:
        self.hooks = hooks

    def _before(self, name: str) -> None:
        self.hooks.get(name, lambda: None)()

    def open_for_reading(self, path: Path) -> int:
        self._before("open")
        return super().open_for_reading(path)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        self._before("read")
        return super().read(fd, size, offset)

    def rename(self, source: Path, target: Path) -> None:
        self._before("rename")
        super().rename(source, target)


def fail(code: int) -> Callable[[], None]:
    def raise_error() -> None:
        raise OSError(code, os.strerror(code))

    return raise_error


@dataclass
class Attic:
    """A cache that nobody serves."""

    root: Path
    tally: Tally = field(default_factory=Tally)
    lines: list[str] = field(default_factory=list)

    def lay(self, made: Tarball, body: bytes | None = None) -> Path:
        path = self.root / "cache" / made.resource.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made.body if body is None else body)
        return path

    async def verify(
        self, memory: Verified | None = None, *, disk: Disk | None = None, limits: TarLimits = AMPLE
    ) -> None:
        cache = CacheFiles(self.root, disk or Disk())
        self.lines = []
        remedy = Repair(cache, memory) if memory else None
        verification = Verification(cache, Hashing(limits), remedy, self.lines.append)
        await verification.run(lambda _: None)
        self.tally = verification.tally

    async def repair(self, *, disk: Disk | None = None) -> None:
        with closing(self.memory()) as memory:
            await self.verify(memory, disk=disk)

    def memory(self) -> Verified:
        return Verified(self.root / "verified.sqlite")

    def knows(self, made: Tarball) -> bool:
        cache = CacheFiles(self.root, Disk())
        with closing(self.memory()) as memory:
            return memory.knows(made.resource.name, cache.disk.stat_at(cache.path(made.resource)))


@pytest.fixture
def attic(tmp_path: Path, no_threads: None) -> Attic:
    return Attic(tmp_path)


async def test_all_kinds_are_checked_and_nothing_is_changed(attic: Attic) -> None:
    for made in (RIGHT, REGISTRY):
        attic.lay(made)
    attic.lay(WANTED, OTHER.body)
    before = files_in(attic.root)
    await attic.verify()
    assert attic.tally == Tally(3, RIGHT.size + REGISTRY.size + OTHER.size, wrong=1)
    assert attic.lines == [f"wrong: {NAME}: another tree, {OTHER.resource.tree_hash}"]
    assert files_in(attic.root) == before


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (OTHER.body, f"another tree, {OTHER.resource.tree_hash}"),
        (WANTED.body[:-1], "no tarball: the gzip stream is truncated"),
        (b"", "no tarball: the gzip stream is truncated"),
        (WANTED.body + b"\0x", "no tarball: there is something after the gzip stream"),
    ],
)
async def test_repair_moves_what_is_wrong_and_remembers_what_is_right(attic: Attic, body: bytes, fault: str) -> None:
    attic.lay(RIGHT)
    wrong = attic.lay(WANTED, body)
    with closing(attic.memory()) as memory:
        memory.add(NAME, Disk().stat_at(wrong))
    await attic.repair()
    assert attic.lines == [f"wrong, moved to quarantine: {NAME}: {fault}"]
    assert attic.tally == Tally(2, RIGHT.size + len(body), wrong=1, moved=1)
    assert files_in(attic.root / "cache") == {RIGHT.resource.name}
    quarantined = attic.root / "quarantine" / NAME
    assert quarantined.read_bytes() == body
    assert attic.knows(RIGHT)
    quarantined.rename(wrong)  # as an operator would put it back, time and all
    assert not attic.knows(WANTED)


async def test_repair_keeps_a_remembered_sha256(attic: Attic) -> None:
    stat = Disk().stat_at(attic.lay(RIGHT))
    with closing(attic.memory()) as memory:
        memory.add(RIGHT.resource.name, stat, sha256=SHA256)
        await attic.verify(memory)
        assert memory.sha256(RIGHT.resource.name, stat) == SHA256


async def test_no_quarantined_file_is_ever_replaced(attic: Attic) -> None:
    for body in (b"first", b"second", b"third"):
        attic.lay(WANTED, body)
        await attic.repair()
    quarantine = attic.root / "quarantine"
    kept = {name: (quarantine / name).read_bytes() for name in files_in(quarantine)}
    assert kept == {NAME: b"first", f"{NAME}.1": b"second", f"{NAME}.2": b"third"}


async def test_names_that_are_no_resource_are_told_and_left_alone(attic: Attic) -> None:
    strange = attic.lay(RIGHT).with_name("note\n.txt")
    strange.write_bytes(b"an operator's")
    upper = strange.with_name(NAME.removeprefix("artifact/").upper())
    upper.write_bytes(b"also")
    await attic.repair()
    assert set(attic.lines) == {
        r"unknown, left alone: 'artifact/note\n.txt'",
        f"unknown, left alone: artifact/{upper.name}",
    }
    assert attic.tally == Tally(1, RIGHT.size)
    assert strange.exists()
    assert upper.exists()


async def test_limits_of_a_tarball_are_those_given(attic: Attic) -> None:
    attic.lay(WANTED)
    await attic.verify(limits=TarLimits(max_unpacked_bytes=100, max_members=10))
    assert attic.lines[0].startswith(f"wrong: {NAME}: no tarball: ")


async def test_an_unreadable_file_is_wrong(attic: Attic) -> None:
    attic.lay(WANTED)
    disk = HookedDisk(read=fail(errno.EIO))
    await attic.verify(disk=disk)
    assert attic.lines == [f"wrong: {NAME}: unreadable: Input/output error"]
    await attic.repair(disk=disk)
    assert attic.tally == Tally(1, WANTED.size, wrong=1, moved=1)
    assert files_in(attic.root / "quarantine") == {NAME}


async def test_a_file_that_cannot_be_opened_is_told_and_left_where_it_is(attic: Attic) -> None:
    attic.lay(WANTED)
    await attic.repair(disk=HookedDisk(open=fail(errno.EACCES)))
    assert attic.lines == [f"wrong: {NAME}: unreadable: Permission denied"]
    assert attic.tally == Tally(1, WANTED.size, wrong=1)
    assert files_in(attic.root / "cache") == {NAME}


@pytest.mark.parametrize("step", ["open", "read"])
@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOMEM])
async def test_a_lack_of_descriptors_or_memory_condemns_no_file(attic: Attic, step: str, code: int) -> None:
    attic.lay(WANTED)
    with pytest.RaisesGroup(pytest.RaisesExc(OSError, match=os.strerror(code)), flatten_subgroups=True):
        await attic.repair(disk=HookedDisk(**{step: fail(code)}))
    assert attic.lines == []
    assert files_in(attic.root / "cache") == {NAME}


async def test_a_folder_that_cannot_be_listed_is_wrong(attic: Attic) -> None:
    attic.lay(RIGHT)
    folder = attic.root / "cache" / "registry"
    folder.write_bytes(b"no folder")
    await attic.repair()
    assert attic.lines == [f"cannot be listed: {folder}: Not a directory"]
    assert attic.tally == Tally(1, RIGHT.size, wrong=1)


async def test_a_wrong_file_that_cannot_be_moved_is_told_with_the_reason(attic: Attic) -> None:
    attic.lay(WANTED, b"wrong")
    await attic.repair(disk=HookedDisk(rename=fail(errno.EROFS)))
    [line] = attic.lines
    assert line.endswith("; it cannot be moved: Read-only file system")
    assert attic.tally == Tally(1, 5, wrong=1)
    assert files_in(attic.root / "cache") == {NAME}


async def test_a_file_that_vanishes_before_it_is_opened_is_no_error(attic: Attic) -> None:
    path = attic.lay(WANTED, b"wrong")
    await attic.repair(disk=HookedDisk(open=path.unlink))
    assert (attic.lines, attic.tally) == ([], Tally())


async def test_a_wrong_file_that_vanishes_while_it_is_read_is_no_error(attic: Attic) -> None:
    path = attic.lay(WANTED, b"wrong")
    await attic.repair(disk=HookedDisk(read=lambda: path.unlink(missing_ok=True)))
    assert (attic.lines, attic.tally) == ([f"changed or gone meanwhile, left alone: {NAME}"], Tally())


@pytest.mark.parametrize("body", [b"wrong", WANTED.body])
async def test_what_replaces_a_file_while_it_is_read_is_neither_moved_nor_remembered(attic: Attic, body: bytes) -> None:
    path = attic.lay(WANTED, body)
    fresh = attic.root / "fresh"
    fresh.write_bytes(body)  # of one size and one time with the other, yet another file
    os.utime(fresh, ns=(0, path.stat().st_mtime_ns))
    hooks = [lambda: fresh.replace(path)]
    await attic.repair(disk=HookedDisk(read=lambda: hooks and hooks.pop()()))
    assert files_in(attic.root / "cache") == {NAME}
    assert files_in(attic.root / "quarantine") == set()
    assert not attic.knows(WANTED)
    assert attic.tally.wrong == 0


async def test_a_wrong_file_that_is_written_to_while_it_is_read_is_left_alone(attic: Attic) -> None:
    path = attic.lay(WANTED, WANTED.body[:-9])
    await attic.repair(disk=HookedDisk(read=lambda: path.write_bytes(WANTED.body)))
    assert path.read_bytes() == WANTED.body
    assert attic.tally.wrong == 0


async def test_a_name_that_cannot_be_looked_up_any_more_is_wrong(attic: Attic) -> None:
    path = attic.lay(WANTED, b"wrong")

    def replace_folder() -> None:
        path.unlink()
        path.parent.rmdir()
        path.parent.write_bytes(b"no folder")

    await attic.repair(disk=HookedDisk(read=replace_folder))
    assert attic.lines == [f"wrong: {NAME}: unreadable: Not a directory"]


async def test_a_survey_counts_what_there_is_to_check(attic: Attic) -> None:
    attic.lay(RIGHT)
    attic.lay(WANTED, b"wrong").with_name("unknown").write_bytes(b"not counted")
    verification = Verification(CacheFiles(attic.root, Disk()), Hashing(AMPLE), None, attic.lines.append)
    assert await verification.survey() == Tally(2, RIGHT.size + 5)


async def test_progress_is_told_after_every_file(attic: Attic) -> None:
    for number in range(5):
        attic.lay(tarball(str(number)))
    seen: list[int] = []
    verification = Verification(CacheFiles(attic.root, Disk()), Hashing(AMPLE), None, attic.lines.append)
    await verification.run(lambda tally: seen.append(tally.files))
    assert seen[-1] == 5
    assert len(seen) == 5


async def test_the_listing_waits_for_the_hashing(attic: Attic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pkgserver_trio.storage.verification._BATCH", 2)
    for number in range(50):
        attic.lay(tarball(str(number), 10))
    disk, hashing = CountingDisk(), GatedHashing()
    verification = Verification(CacheFiles(attic.root, disk), hashing, None, attic.lines.append)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(verification.run, lambda _: None)
        await wait_all_tasks_blocked()
        assert disk.listed <= 2 * (os.cpu_count() or 1) + 2
        hashing.gate.set()
    assert verification.tally.files == 50


class CountingDisk(Disk):
    """Counts what it has listed."""

    def __init__(self) -> None:
        self.listed = 0

    def files(self, folder: Path, unlisted: Callable[[OSError], None] = warn_of) -> Iterator[tuple[str, FileStat]]:
        for found in super().files(folder, unlisted):
            self.listed += 1
            yield found


class GatedHashing(Hashing):
    """Hashes once its gate is open."""

    def __init__(self) -> None:
        super().__init__(AMPLE)
        self.gate = trio.Event()

    async def whole(self, file: OpenFile, size: int) -> TreeHashes:
        await self.gate.wait()
        return await super().whole(file, size)


async def test_files_are_hashed_at_one_time_in_several_threads(tmp_path: Path) -> None:
    attic = Attic(tmp_path)
    for made in (RIGHT, WANTED):
        attic.lay(made)
    both = threading.Barrier(2)
    hashed = HookedDisk(read=lambda: both.wait(10))
    await attic.verify(disk=hashed)
    assert attic.tally == Tally(2, RIGHT.size + WANTED.size)


async def test_a_library_serves_on_while_its_cache_is_repaired(attic: Attic) -> None:
    host = FakeTransport({WANTED.path: WANTED.body, RIGHT.path: RIGHT.body})
    async with open_loft(attic.root, {"one.invalid": host}) as loft:
        for made in (WANTED, RIGHT):
            await loft.library.hold(made.resource)
        path = loft.store.path(WANTED.resource)
        rot(path)
        await attic.repair()
        assert files_in(attic.root / "quarantine") == {NAME}
        for made in (WANTED, RIGHT):
            assert (await loft.get(made.resource)).body == made.body
        await wait_all_tasks_blocked()
        assert host.requests("GET", WANTED.path) == 2
        assert host.requests("GET", RIGHT.path) == 1
        assert attic.knows(WANTED)
        assert loft.cached == {NAME, RIGHT.resource.name}
        assert loft.store.index.total_bytes == WANTED.size + RIGHT.size


async def test_a_cancelled_verification_leaves_no_file_open(attic: Attic) -> None:
    attic.lay(WANTED)
    opened = OpenFiles()
    with trio.CancelScope() as scope:
        opened.hooks["read"] = scope.cancel
        await attic.verify(disk=opened)
    assert scope.cancelled_caught
    assert opened.fds == set()


class OpenFiles(HookedDisk):
    """Knows what it has open."""

    def __init__(self) -> None:
        super().__init__()
        self.fds: set[int] = set()

    def open_for_reading(self, path: Path) -> int:
        fd = super().open_for_reading(path)
        self.fds.add(fd)
        return fd

    def close(self, fd: int) -> None:
        self.fds.discard(fd)
        super().close(fd)

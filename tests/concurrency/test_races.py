"""Races that only load or bad luck shows, each forced here."""

from __future__ import annotations

import errno
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
import trio
from structlog.testing import capture_logs
from tests.disks import ScriptedDisk
from tests.fakes import Behaviour, FakeTransport, Pieces, good
from tests.lofts import LoftPlan, open_loft, read_on, tarball
from tests.unit.tarballs import AMPLE
from trio.testing import wait_all_tasks_blocked

from pkgserver_trio.downloads.flight import FlightReader
from pkgserver_trio.downloads.progress import Progress
from pkgserver_trio.downloads.proof import Follower
from pkgserver_trio.errors import BrokenOffError, NotFoundError, StorageFailedError, UpstreamFailedError
from pkgserver_trio.library import Sighting
from pkgserver_trio.storage.hashing import Hashing
from pkgserver_trio.storage.open_file import OpenFile
from pkgserver_trio.storage.store import Store
from pkgserver_trio.tarballs.inflate import TarballError
from pkgserver_trio.upstream.reception import Pieces as Received

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.fakes import Request
    from trio.testing import MockClock

    from pkgserver_trio.storage.hashing import FileHasher


WANTED = tarball("wanted", 40_000)
BODY, SIZE = WANTED.body, WANTED.size
HALF = SIZE // 2
OTHER = tarball("other", 40_000).body
DAMAGED = BODY[:HALF] + b"damaged" + BODY[HALF + 7 :]


async def test_what_is_cut_before_a_woken_reader_runs_is_not_read() -> None:
    progress = Progress()
    progress.begin(100)
    progress.reach(10)
    ends: list[int] = []

    async def read() -> None:
        ends.append(await progress.wait_readable(progress.state.view, 9, 100))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        progress.reach(50)
        progress.cut(9)
        await wait_all_tasks_blocked()
        assert ends == []
        progress.reach(20)
    assert ends == [19]


@pytest.mark.parametrize("offset", [0, HALF])
async def test_what_is_cut_while_a_thread_reads_it_is_not_sent(
    tmp_path: Path, no_threads: None, monkeypatch: pytest.MonkeyPatch, offset: int
) -> None:
    gate = trio.Event()
    host = FakeTransport(script=lambda _: Behaviour(body=BODY, pieces=Pieces(size=HALF + 1000, release=gate)))
    read = OpenFile.read

    async def read_and_be_cut(file: OpenFile, offset: int, stop: int) -> bytes:
        piece = await read(file, offset, stop)
        flight = loft.downloads.flights.get(WANTED.resource)
        if flight is not None and not flight.progress.state.cuts:
            flight.progress.cut(100)
        return piece

    monkeypatch.setattr(OpenFile, "read", read_and_be_cut)
    async with open_loft(tmp_path, {"one.invalid": host}) as loft:
        source = await loft.library.obtain(WANTED.resource)
        assert isinstance(source, FlightReader)
        await wait_all_tasks_blocked()
        if offset:
            with pytest.raises(BrokenOffError):
                await source.read(offset, None)
        else:
            assert await source.read(offset, None) == BODY[:99]
        source.close()
        loft.downloads.flights.get(WANTED.resource).progress.reach(HALF + 1000)  # type: ignore[union-attr] # it runs
        gate.set()


class CuttingHashing(Hashing):
    """While it reads, the download is cut below what it reads; then it finds fault with that."""

    def __init__(self, progress: Progress, kept: int) -> None:
        super().__init__(AMPLE)
        self.progress, self.kept = progress, kept

    async def visit(self, hasher: FileHasher, stop: int) -> None:
        await super().visit(hasher, stop)
        if not self.progress.state.cuts:
            self.progress.cut(self.kept)
            self.progress.reach(SIZE)
            self.progress.arrive()
            raise TarballError("what was cut")


@pytest.mark.parametrize("kept", [0, HALF])
async def test_a_hasher_that_read_what_was_being_cut_begins_anew(tmp_path: Path, no_threads: None, kept: int) -> None:
    disk = ScriptedDisk()
    file = OpenFile(disk, disk.create(tmp_path / "file"))
    disk.write(file.fd, BODY, 0)
    progress = Progress()
    progress.begin(SIZE)
    progress.reach(SIZE - 1)
    hashes = await Follower(CuttingHashing(progress, kept), progress, file).follow()
    assert hashes.include(WANTED.resource.tree_hash)
    file.release()


async def test_a_piece_that_is_looked_at_after_its_time_is_no_defect(autojump_clock: MockClock) -> None:
    async def late() -> AsyncIterator[bytes]:
        with trio.CancelScope(shield=True):  # the event loop was busy
            await trio.sleep(6)
        yield b"x"
        await trio.sleep(1)

    pieces = Received(late(), 5, 256)
    assert await anext(pieces) == b"x"
    with pytest.raises(trio.TooSlowError):
        await anext(pieces)


async def test_a_hand_over_waits_for_nobodys_probes(tmp_path: Path, autojump_clock: MockClock) -> None:
    broken = FakeTransport(
        script={("HEAD", WANTED.path): good(BODY), ("GET", WANTED.path): Behaviour(body=BODY, stall_at=HALF)}
    )
    slow = FakeTransport(
        {WANTED.path: BODY}, script={("HEAD", WANTED.path): Behaviour(body=BODY, delay_before_head=0.1)}
    )
    async with open_loft(tmp_path, {"one.invalid": broken, "two.invalid": slow}) as loft, AsyncExitStack() as flood:
        reader = await loft.library.obtain(WANTED.resource)
        turns = loft.downloads._probes._turns
        for number in range(int(turns.total.total_tokens)):
            await flood.enter_async_context(turns.take(f"peer {number}", trio.current_time() + 1))
        reading = await read_on(reader)
        assert trio.current_time() < 6
    assert reading.body == BODY


@pytest.mark.parametrize("ask", ["obtain", "sight"])
async def test_what_was_asked_before_a_publication_is_not_missing_after_it(
    tmp_path: Path, autojump_clock: MockClock, ask: str
) -> None:
    host = FakeTransport(script=lambda _: Behaviour(status=404, delay_before_head=1))
    async with open_loft(tmp_path, {"one.invalid": host}) as loft:

        async def hear_too_early() -> None:
            with pytest.raises(NotFoundError):
                await getattr(loft.library, ask)(WANTED.resource)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hear_too_early)
            await trio.sleep(0.5)
            loft.library.welcome([])
        host.script, host.files = {}, {WANTED.path: BODY}
        assert (await loft.get(WANTED.resource)).body == BODY


async def test_two_copies_one_right_after_the_other_have_different_times(tmp_path: Path, no_threads: None) -> None:
    host = FakeTransport({WANTED.path: BODY})
    async with open_loft(tmp_path, {"one.invalid": host}, LoftPlan(max_cache=HALF, wall_ns=lambda: 10**18)) as loft:
        times = []
        for _ in range(3):  # each is dropped at its end
            source = await loft.library.obtain(WANTED.resource)
            times.append(source.mtime_seconds)
            await read_on(source)
            await wait_all_tasks_blocked()
    assert len(set(times)) == 3


async def test_a_disk_that_fails_beneath_the_hasher_has_its_name_and_is_told(
    tmp_path: Path, no_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise OSError(errno.EIO, "input/output error")

    hashing = Hashing(AMPLE)
    monkeypatch.setattr(hashing, "visit", fail)
    with capture_logs() as lines:
        async with open_loft(
            tmp_path, {"one.invalid": FakeTransport({WANTED.path: BODY})}, LoftPlan(hashing=hashing)
        ) as loft:
            with pytest.raises(StorageFailedError, match="input/output error"):
                await loft.library.hold(WANTED.resource)
            loft.assert_no_leftovers()
    assert [line["event"] for line in lines] == ["not downloaded"]


async def test_a_defect_is_told_with_its_traceback_and_fails_nobody_else(
    tmp_path: Path, no_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    host = FakeTransport({WANTED.path: BODY})
    with capture_logs() as lines:
        async with open_loft(tmp_path, {"one.invalid": host}) as loft:
            with monkeypatch.context() as patch:
                patch.setattr(Store, "reserve", fail)
                for ask in (loft.library.hold, loft.library.obtain):
                    with pytest.raises(StorageFailedError, match="ZeroDivisionError"):
                        await ask(WANTED.resource)
            loft.assert_no_leftovers()
            assert (await loft.get(WANTED.resource)).body == BODY
    assert [(line["event"], line.get("exc_info")) for line in lines[:2]] == [("not downloaded", True)] * 2


async def test_a_file_that_loses_its_end_breaks_its_answers_off(tmp_path: Path, no_threads: None) -> None:
    gate = trio.Event()
    host = FakeTransport(script=lambda _: Behaviour(body=BODY, pieces=Pieces(size=HALF, release=gate)))
    async with open_loft(tmp_path, {"one.invalid": host}) as loft:
        source = await loft.library.obtain(WANTED.resource)
        assert isinstance(source, FlightReader)
        await wait_all_tasks_blocked()
        source.file.disk.truncate(source.file.fd, 0)
        assert (await read_on(source)).broken
        gate.set()


async def test_a_head_during_a_download_tells_what_that_knows(tmp_path: Path, no_threads: None) -> None:
    gate = trio.Event()
    host = FakeTransport(script=lambda _: Behaviour(body=BODY, pieces=Pieces(size=HALF, release=gate)))
    async with open_loft(tmp_path, {"one.invalid": host}) as loft:
        source = await loft.library.obtain(WANTED.resource)
        seen = await loft.library.sight(WANTED.resource)
        assert seen == Sighting(cached=False, size_bytes=SIZE, mtime_seconds=source.mtime_seconds)
        assert host.requests("HEAD", WANTED.path) == 1
        source.close()
        gate.set()


async def test_a_slow_server_is_not_given_up_for_the_silence_of_others(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    gets = [Behaviour(body=BODY, stall_at=HALF)] * 3 + [Behaviour(body=BODY, delay_before_head=3)]
    hosts = {
        f"host{number}.invalid": FakeTransport(
            script={
                ("HEAD", WANTED.path): Behaviour(body=BODY, delay_before_head=number / 10),
                ("GET", WANTED.path): get,
            }
        )
        for number, get in enumerate(gets)
    }
    async with open_loft(tmp_path, hosts) as loft:
        assert (await loft.get(WANTED.resource)).body == BODY


LIARS = {
    "another total": {"content-range": f"bytes {HALF}-{SIZE}/{SIZE + 1}"},
    "another start": {"content-range": f"bytes 0-{SIZE - 1}/{SIZE}"},
    "no range at all": {"content-range": ""},
}


@pytest.mark.parametrize("headers", LIARS.values(), ids=LIARS)
@pytest.mark.parametrize("rest", [BODY[HALF:], OTHER[HALF:], b""])
async def test_a_lying_resumption_completes_nothing_wrong(
    tmp_path: Path, autojump_clock: MockClock, headers: dict[str, str], rest: bytes
) -> None:
    gets = [
        Behaviour(body=BODY, etag='"tag"', reset_at=HALF, pieces=Pieces(size=4096)),
        Behaviour(status=206, body=rest, etag='"tag"', headers=headers),
    ]
    liar = FakeTransport(script={("HEAD", WANTED.path): good(BODY), ("GET", WANTED.path): gets})
    late = {("HEAD", WANTED.path): Behaviour(body=BODY, delay_before_head=0.1)}
    async with open_loft(
        tmp_path, {"one.invalid": liar, "two.invalid": FakeTransport({WANTED.path: BODY}, late)}
    ) as loft:
        reading = await loft.get(WANTED.resource)
        assert reading.broken or reading.body == BODY
        assert (await loft.get(WANTED.resource)).body == BODY


async def test_a_server_that_answers_every_head_and_delivers_nothing_is_left_alone(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    files = {one.path: one.body for one in (tarball(f"wanted {number}") for number in range(6))}

    def answer_heads(request: Request) -> Behaviour | None:
        return Behaviour(status=500) if request.method == "GET" else None

    def answer_slowly(request: Request) -> Behaviour | None:
        late = request.method == "HEAD" and request.path in files
        return Behaviour(body=files[request.path], delay_before_head=0.1) if late else None

    heads, slow = FakeTransport(files, answer_heads), FakeTransport(files, answer_slowly)
    async with open_loft(tmp_path, {"heads.invalid": heads, "slow.invalid": slow}) as loft:
        for number in range(6):
            with pytest.raises((NotFoundError, UpstreamFailedError)):
                await loft.library.hold(tarball(f"missing {number}").resource)
            one = tarball(f"wanted {number}")
            assert (await loft.get(one.resource)).body == one.body
    assert sum(request.method == "GET" for request in heads.seen) == 3

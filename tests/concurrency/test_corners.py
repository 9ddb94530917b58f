"""What else can happen to a flight, its readers and its servers, and hardly ever does."""

from __future__ import annotations

import gzip
import hashlib
import os
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest
import trio
from tests.disks import ScriptedDisk
from tests.fakes import Behaviour, FakeTransport, Pieces
from tests.lofts import LoftPlan, open_loft, read_on, tarball
from tests.unit.tarballs import AMPLE
from trio.testing import wait_all_tasks_blocked

from pkgserver_trio.downloads.flight import FlightReader
from pkgserver_trio.errors import ShuttingDownError, UpstreamFailedError
from pkgserver_trio.refusals import MAX_REFUSALS, Refusals
from pkgserver_trio.settings import SettingsError
from pkgserver_trio.storage.disk import Disk
from pkgserver_trio.storage.hashing import Hashing
from pkgserver_trio.storage.open_file import OpenFile
from pkgserver_trio.tarballs.inflate import TarballError
from pkgserver_trio.upstream.http_client import trust
from pkgserver_trio.upstream.reception import Pieces as Received

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from trio.testing import MockClock

WANTED = tarball("wanted", 40_000)
BODY, SIZE = WANTED.body, WANTED.size
HALF = SIZE // 2


def test_the_longest_remembered_refusals_make_room() -> None:
    refusals: Refusals[int, ValueError] = Refusals()
    for number in range(MAX_REFUSALS + 2):
        refusals.add(number, ValueError(), 10)
    assert [refusals.recall(number, 0) is None for number in (0, 1, 2)] == [True, True, False]


@pytest.mark.parametrize("fails", [False, True])
async def test_the_whole_is_there_or_not_at_all(tmp_path: Path, autojump_clock: MockClock, *, fails: bool) -> None:
    answer = Behaviour(body=BODY, declared_length=None, pieces=Pieces(HALF, pause=1), close_at=HALF if fails else None)
    async with open_loft(tmp_path, {"one.invalid": FakeTransport(script=lambda _: answer)}) as loft:
        source = await loft.library.obtain(WANTED.resource)
        assert isinstance(source, FlightReader)
        assert source.size_bytes is None
        source.flight.raise_if_failed()
        try:
            if fails:
                with pytest.raises(UpstreamFailedError):
                    await source.whole()
                with pytest.raises(UpstreamFailedError):
                    source.flight.raise_if_failed()
            else:
                assert (await source.whole()).size_bytes == SIZE
                source.flight.raise_if_failed()
        finally:
            source.close()


async def test_the_sha256_of_what_does_not_fit_is_computed_from_what_passes(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    answer = Behaviour(body=BODY, declared_length=None, pieces=Pieces(HALF, pause=1))
    hosts = {"one.invalid": FakeTransport(script=lambda _: answer)}
    async with open_loft(tmp_path, hosts, LoftPlan(max_cache=HALF)) as loft:
        assert await loft.library.sha256(WANTED.resource) == hashlib.sha256(BODY).hexdigest()
        assert loft.cached == set()


async def test_a_probe_that_a_shutdown_ends_is_told_so(tmp_path: Path, no_threads: None) -> None:
    host = FakeTransport(script=lambda _: Behaviour(never_answer=True))

    async def hear_of_it() -> None:
        with pytest.raises(ShuttingDownError):
            await loft.library.sight(WANTED.resource)

    async with (
        trio.open_nursery() as clients,
        trio.open_nursery() as flights,
        open_loft(tmp_path, {"one.invalid": host}, LoftPlan(nursery=flights)) as loft,
    ):
        clients.start_soon(hear_of_it)  # noqa: ASYNC111 # it ends when the flights do
        await wait_all_tasks_blocked()
        flights.cancel_scope.cancel()


@pytest.mark.parametrize("size", [0, 1, 3])
async def test_a_coded_answer_too_short_to_tell_is_no_delivery(
    tmp_path: Path, autojump_clock: MockClock, size: int
) -> None:
    coded = Behaviour(
        body=gzip.compress(BODY)[:size], headers={"content-encoding": "gzip"}, pieces=Pieces(size=1, pause=1)
    )
    async with open_loft(tmp_path, {"one.invalid": FakeTransport(script=lambda _: coded)}) as loft:
        with pytest.raises(UpstreamFailedError):
            await loft.library.hold(WANTED.resource)
        loft.assert_no_leftovers()


@pytest.mark.parametrize("start", [b"\x1f\x8b\x08\x08" + bytes(6) + b"name", b"\x1f\x8b\x09"])
async def test_a_coded_body_that_never_tells_is_taken_as_it_is(autojump_clock: MockClock, start: bytes) -> None:
    async def endless() -> AsyncGenerator[bytes, None]:
        yield start
        while True:
            await trio.lowlevel.checkpoint()
            yield b"x" * 10_000

    async with aclosing(endless()) as raw:
        pieces = Received(raw, 5, 256)
        assert not await pieces.is_gzip_twice()
        assert (await anext(pieces)).startswith(start)
        assert await anext(pieces) == b"x" * 10_000


async def test_a_body_that_was_coded_twice_is_freed_of_one_coding(tmp_path: Path, autojump_clock: MockClock) -> None:
    coded = Behaviour(
        body=gzip.compress(BODY), headers={"content-encoding": "gzip"}, pieces=Pieces(size=999, pause=0.1)
    )
    async with open_loft(tmp_path, {"one.invalid": FakeTransport(script=lambda _: coded)}) as loft:
        assert (await read_on(await loft.library.obtain(WANTED.resource))).body == BODY


@pytest.mark.parametrize(("readers", "expected_bytes"), [(1, 262_144), (32, 262_144), (100, 83_886), (1000, 65_536)])
async def test_the_more_read_a_file_the_less_each_of_them_holds_of_it(
    tmp_path: Path, readers: int, expected_bytes: int
) -> None:
    (tmp_path / "file").write_bytes(bytes(1_000_000))
    disk = Disk()
    file = OpenFile(disk, os.open(tmp_path / "file", os.O_RDONLY))
    for _ in range(readers - 1):
        file.hold()
    assert len(await file.read(0, 1_000_000)) == expected_bytes
    for _ in range(readers):
        file.release()
    assert file.closed


async def test_a_file_that_shrinks_while_it_is_hashed_is_no_tarball(tmp_path: Path, no_threads: None) -> None:
    disk = ScriptedDisk()
    file = OpenFile(disk, disk.create(tmp_path / "file"))
    disk.write(file.fd, BODY, 0)
    with pytest.raises(TarballError, match="shorter"):
        await Hashing(AMPLE).whole(file, SIZE + 1)
    file.release()


def test_an_authority_is_read_from_a_file_or_the_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="PKGSERVER_CA_FILE"):
        trust(str(tmp_path / "nothing"))
    wrong = tmp_path / "wrong"
    wrong.write_text("no certificate")
    with pytest.raises(SettingsError, match="PKGSERVER_CA_FILE"):
        trust(str(wrong))

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import trio
from tests.concurrency.world import named, read_all, tarball, world
from tests.fakes import Behaviour, FakeTransport, Pieces
from trio.testing import MockClock, wait_all_tasks_blocked

from pkgserver_trio.errors import ShuttingDownError
from pkgserver_trio.flight import FlightReader

if TYPE_CHECKING:
    from pathlib import Path

BODY = tarball(os.urandom(2_000_000))
RESOURCE = named(BODY)
PATH = RESOURCE.path


def gated(release: trio.Event, body: bytes = BODY) -> Behaviour:
    """Answer with the first half now, the rest when the test says so."""
    return Behaviour(body=body, pieces=Pieces(size=len(body) // 2 + 1, release=release))


async def test_two_hundred_readers_share_one_race_and_one_download(tmp_path: Path, autojump_clock: MockClock) -> None:
    release = trio.Event()
    first, second = (FakeTransport(script=lambda _: gated(release)) for _ in "ab")
    begun, right = 0, 0

    async def reader() -> None:
        nonlocal begun, right
        source = await here.library.obtain(RESOURCE)
        first_piece = await source.read(0, len(BODY))
        begun += 1
        if begun == 200:
            release.set()  # so every reader has bytes while the upstream still sends
        rest = await read_all(source, len(first_piece), len(BODY))
        right += first_piece + rest == BODY
        source.close()

    async with world(tmp_path, first, second) as here, trio.open_nursery() as readers:
        for _ in range(200):
            readers.start_soon(reader)
    assert right == 200
    assert [upstream.requests("HEAD", PATH) for upstream in (first, second)] == [1, 1]
    assert sum(upstream.requests("GET", PATH) for upstream in (first, second)) == 1


@pytest.mark.parametrize("stays", [0, 1])
async def test_readers_that_leave_never_stop_the_flight(tmp_path: Path, autojump_clock: MockClock, stays: int) -> None:
    release = trio.Event()
    upstream = FakeTransport(script=lambda _: gated(release))
    got: list[bytes] = []

    async def reader() -> None:
        source = await here.library.obtain(RESOURCE)
        try:
            got.append(await read_all(source))
        finally:
            source.close()

    async with world(tmp_path, upstream) as here, trio.open_nursery() as staying:
        for _ in range(stays):
            staying.start_soon(reader)
        async with trio.open_nursery() as leaving:
            for _ in range(5):
                leaving.start_soon(reader)
            await upstream.wait_for("GET", PATH)
            await trio.sleep(1)
            leaving.cancel_scope.cancel()
        release.set()
        await here.settle()
        assert here.cached() == [RESOURCE.name]
        assert here.is_clean()
        assert (here.root / "cache" / RESOURCE.name).read_bytes() == BODY
        source = await here.library.obtain(RESOURCE)
        assert not isinstance(source, FlightReader)
        source.close()
    assert got == [BODY] * stays
    assert upstream.requests("GET", PATH) == 1


@pytest.mark.parametrize(("start", "stop"), [(0, len(BODY)), (10, 1000), (0, 1), (len(BODY) - 1, len(BODY))])
async def test_last_byte_of_every_answer_waits_for_the_verification(
    tmp_path: Path, autojump_clock: MockClock, start: int, stop: int
) -> None:
    release = trio.Event()
    upstream = FakeTransport(script=lambda _: gated(release))
    async with world(tmp_path, upstream) as here:
        source = await here.library.obtain(RESOURCE)
        got = b""
        with trio.move_on_after(2):
            while True:
                got += await source.read(start + len(got), stop)
        assert len(got) < stop - start, "the last byte came before the upstream had sent the rest"
        assert got == BODY[start : start + len(got)]
        if start == 10:
            assert len(got) == stop - start - 1, "all but the last byte of a range are there early"
        release.set()
        assert got + await read_all(source, start + len(got), stop) == BODY[start:stop]
        source.close()


async def test_body_of_unknown_size_is_streamed_and_ends_when_it_is_verified(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    release = trio.Event()
    chunked = Behaviour(body=BODY, declared_length=None, pieces=Pieces(size=len(BODY) // 2 + 1, release=release))
    upstream = FakeTransport(script=lambda _: chunked)
    async with world(tmp_path, upstream) as here:
        source = await here.library.obtain(RESOURCE)
        assert source.size_bytes is None
        assert isinstance(source, FlightReader)
        early = await source.read(0, None)
        assert BODY.startswith(early)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(source.whole)
            await wait_all_tasks_blocked()
            release.set()
        whole = await source.whole()
        assert whole.size_bytes == len(BODY)
        assert early + await read_all(source, len(early)) == BODY
        source.close()


async def test_shutdown_wakes_those_who_wait_and_leaves_no_file(tmp_path: Path, autojump_clock: MockClock) -> None:
    stalled = FakeTransport(script=lambda _: Behaviour(body=BODY, pieces=Pieces(size=1000, release=trio.Event())))
    silent = FakeTransport(script=lambda _: Behaviour(delay_before_head=8))
    other = named(tarball(b"other"))
    async with world(tmp_path, stalled, silent) as here:
        source = await here.library.obtain(RESOURCE)

        async def late() -> None:
            flight = here.downloads.join(other)
            with pytest.raises(ShuttingDownError):
                await flight.wait_landed()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(late)
            await wait_all_tasks_blocked()
            here.nursery.cancel_scope.cancel()
        source.close()
    assert here.is_clean()
    assert here.cached() == []

"""One flight for all who want a resource: sharing, the last byte, readers that leave, bounds, shutdown."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import trio
from tests.fakes import Behaviour, FakeTransport, Pieces
from tests.lofts import LoftPlan, open_loft, ranges_of, read_on, tarball
from tests.unit.tarballs import AMPLE
from trio.testing import wait_all_tasks_blocked

from pkgserver_trio.downloads.flight import FlightReader
from pkgserver_trio.errors import (
    NotFoundError,
    PeerOverBoundError,
    QueueFullError,
    ShuttingDownError,
)
from pkgserver_trio.storage.hashing import Hashing
from pkgserver_trio.upstream.admission import Admission

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lofts import Loft, Reading
    from trio.testing import MockClock

    from pkgserver_trio.storage.hashing import FileHasher
    from pkgserver_trio.tarballs.tree_hash import TreeHashes

WANTED = tarball("wanted", 40_000)
BODY = WANTED.body
HALF = WANTED.size // 2


class GatedHashing(Hashing):
    """Knows the tree hash, and keeps it to itself until the gate opens."""

    def __init__(self) -> None:
        super().__init__(AMPLE)
        self.gate = trio.Event()

    async def finish(self, hasher: FileHasher) -> TreeHashes:
        hashes = await super().finish(hasher)
        await self.gate.wait()
        return hashes


async def test_two_hundred_waiters_cost_one_probe_of_each_server_and_one_download(tmp_path: Path) -> None:
    gate = trio.Event()
    slow = Behaviour(body=BODY, pieces=Pieces(size=HALF, release=gate))
    hosts = {host: FakeTransport(script=lambda _: slow) for host in ("one.invalid", "two.invalid")}
    have_begun: list[int] = []
    bodies: list[bytes] = []

    async def be_client(loft: Loft) -> None:
        source = await loft.library.obtain(WANTED.resource)
        first = await source.read(0, WANTED.size)
        have_begun.append(len(first))
        if len(have_begun) == 200:
            gate.set()  # so every client had bytes while the upstream was still sending
        bodies.append(first + (await read_on(source, len(first))).body)

    async with open_loft(tmp_path, hosts) as loft, trio.open_nursery() as clients:
        for _ in range(200):
            clients.start_soon(be_client, loft)
    assert bodies == [BODY] * 200
    assert all(host.requests("HEAD", WANTED.path) <= 1 for host in hosts.values())
    assert sum(host.requests("GET", WANTED.path) for host in hosts.values()) == 1
    assert loft.cached == {WANTED.resource.name}
    loft.assert_no_leftovers()


@pytest.mark.parametrize("length", ["true", None])
async def test_the_last_byte_of_every_answer_comes_after_verification(
    tmp_path: Path, no_threads: None, length: int | None
) -> None:
    host = FakeTransport(script=lambda _: Behaviour(body=BODY, declared_length=length))
    hashing = GatedHashing()
    got: dict[tuple[int, int | None], Reading] = {}
    before: dict[tuple[int, int | None], int] = {}

    async def be_client(loft: Loft, start: int, stop: int | None) -> None:
        source = await loft.library.obtain(WANTED.resource)
        assert isinstance(source, FlightReader)
        offset, end = start, WANTED.size if stop is None else stop
        while offset < end - 1:
            offset += len(await source.read(offset, stop))
        before[start, stop] = offset
        got[start, stop] = await read_on(source, offset, stop)

    plan = LoftPlan(hashing=hashing)
    async with open_loft(tmp_path, {"one.invalid": host}, plan) as loft, trio.open_nursery() as clients:
        for start, stop in ranges_of(WANTED.size):
            clients.start_soon(be_client, loft, start, stop)
        await wait_all_tasks_blocked()
        assert before.keys() == set(ranges_of(WANTED.size))
        assert got == {}
        assert loft.cached == set()
        hashing.gate.set()
    assert {span: reading.body for span, reading in got.items()} == {
        (start, stop): BODY[start:stop][-1:] for start, stop in ranges_of(WANTED.size)
    }


@pytest.mark.parametrize("readers", [1, 3])
async def test_cancelled_readers_never_cancel_the_flight(tmp_path: Path, no_threads: None, readers: int) -> None:
    gate = trio.Event()
    slow = Behaviour(body=BODY, pieces=Pieces(size=HALF, release=gate))
    host = FakeTransport(script=lambda _: slow)
    async with open_loft(tmp_path, {"one.invalid": host}) as loft:
        async with trio.open_nursery() as clients:
            for _ in range(readers):
                clients.start_soon(loft.get, WANTED.resource)
            await wait_all_tasks_blocked()
            clients.cancel_scope.cancel()
        assert WANTED.resource in loft.downloads.flights
        gate.set()
        await wait_all_tasks_blocked()
        assert loft.cached == {WANTED.resource.name}
        assert (await loft.get(WANTED.resource)).body == BODY
    assert host.requests("GET", WANTED.path) == 1


async def test_a_reader_cancelled_before_the_first_byte_leaves_the_others_alone(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    host = FakeTransport(script=lambda _: Behaviour(body=BODY, delay_before_head=3))
    readings: list[Reading] = []

    async def stay(loft: Loft) -> None:
        readings.append(await loft.get(WANTED.resource))

    async with open_loft(tmp_path, {"one.invalid": host}) as loft, trio.open_nursery() as clients:
        clients.start_soon(stay, loft)
        with trio.move_on_after(1) as scope:
            await loft.get(WANTED.resource)
        assert scope.cancelled_caught
    assert [reading.body for reading in readings] == [BODY]


async def test_the_bound_on_downloads_makes_the_others_wait(tmp_path: Path, no_threads: None) -> None:
    gate = trio.Event()
    gated = Behaviour(body=BODY, pieces=Pieces(size=HALF, release=gate))
    late = tarball("late")
    host = FakeTransport({late.path: late.body}, {("GET", WANTED.path): gated, ("HEAD", WANTED.path): gated})
    async with open_loft(tmp_path, {"one.invalid": host}, LoftPlan(max_downloads=1)) as loft:
        loft.downloads.join(WANTED.resource, "one")
        await wait_all_tasks_blocked()
        loft.downloads.join(late.resource, "two")
        await wait_all_tasks_blocked()
        assert host.requests("GET", late.path) == 0
        gate.set()
        await wait_all_tasks_blocked()
        assert loft.cached == {WANTED.resource.name, late.resource.name}


async def test_who_waits_too_long_for_a_turn_is_told_to_come_later(tmp_path: Path, autojump_clock: MockClock) -> None:
    gated = Behaviour(body=BODY, pieces=Pieces(size=2000, pause=1))
    late = tarball("late")
    host = FakeTransport({late.path: late.body}, {("GET", WANTED.path): gated, ("HEAD", WANTED.path): gated})
    async with open_loft(tmp_path, {"one.invalid": host}, LoftPlan(max_downloads=1)) as loft:
        loft.downloads.join(WANTED.resource, "one")
        with pytest.raises(QueueFullError):
            await loft.library.hold(late.resource, peer="two")
        await trio.sleep(60)
        await loft.library.hold(late.resource, peer="two")


async def test_what_one_peer_and_all_together_wait_for_is_bounded_until_a_server_delivers(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    wanted = [tarball(f"wanted {number}") for number in range(6)]
    host = FakeTransport(
        {one.path: one.body for one in wanted}, {("HEAD", one.path): Behaviour(delay_before_head=3) for one in wanted}
    )
    plan = LoftPlan(admission=Admission(max_waiting=4, max_waiting_each=2))
    async with open_loft(tmp_path, {"one.invalid": host}, plan) as loft:
        downloads = loft.downloads
        flights = [downloads.join(one.resource, peer) for one, peer in zip(wanted[:3], ["a", "a", "b"], strict=True)]
        assert downloads.join(wanted[0].resource, "a") is flights[0], "what runs already costs nothing"
        with pytest.raises(PeerOverBoundError):
            downloads.join(wanted[4].resource, "a")
        with pytest.raises(PeerOverBoundError):
            await downloads.probe(wanted[4].resource, "a")
        downloads.join(wanted[3].resource, "c")
        with pytest.raises(QueueFullError):
            downloads.join(wanted[4].resource, "d")
        downloads.join(wanted[5].resource)  # our own
        await trio.sleep(4)
        downloads.join(wanted[4].resource, "a")
    assert len(loft.cached) == 6


async def test_heads_of_one_missing_resource_share_one_race(tmp_path: Path, autojump_clock: MockClock) -> None:
    host = FakeTransport(script=lambda _: Behaviour(status=404, delay_before_head=1))
    async with open_loft(tmp_path, {"one.invalid": host}) as loft, trio.open_nursery() as clients:

        async def ask() -> None:
            with pytest.raises(NotFoundError):
                await loft.library.sight(WANTED.resource)

        for _ in range(50):
            clients.start_soon(ask)
    assert host.requests("HEAD", WANTED.path) == 1


async def test_what_drains_begins_nothing_and_finishes_what_runs(tmp_path: Path, no_threads: None) -> None:
    gate = trio.Event()
    host = FakeTransport(script=lambda _: Behaviour(body=BODY, pieces=Pieces(size=HALF, release=gate)))
    async with open_loft(tmp_path, {"one.invalid": host}) as loft:
        loft.downloads.join(WANTED.resource)
        await wait_all_tasks_blocked()
        loft.downloads.drain()
        with pytest.raises(ShuttingDownError):
            await loft.library.obtain(tarball("late").resource)
        assert loft.downloads.join(WANTED.resource) is loft.downloads.flights.get(WANTED.resource)
        gate.set()
        await wait_all_tasks_blocked()
        assert loft.cached == {WANTED.resource.name}


async def test_a_shutdown_tells_the_readers_and_leaves_no_file(tmp_path: Path, no_threads: None) -> None:
    gated = Behaviour(body=BODY, pieces=Pieces(size=HALF, release=trio.Event()))
    host = FakeTransport(script=lambda _: gated)

    async def be_cut_off(loft: Loft) -> None:
        reading = await loft.get(WANTED.resource)
        assert reading.broken
        assert reading.body == BODY[: HALF - 1]

    async def hear_of_it(loft: Loft) -> None:
        with pytest.raises(ShuttingDownError):
            await loft.library.hold(WANTED.resource)

    async with (
        trio.open_nursery() as clients,
        trio.open_nursery() as flights,
        open_loft(tmp_path, {"one.invalid": host}, LoftPlan(nursery=flights)) as loft,
    ):
        clients.start_soon(be_cut_off, loft)  # noqa: ASYNC111 # both end when the flights do
        clients.start_soon(hear_of_it, loft)  # noqa: ASYNC111 # both end when the flights do
        await wait_all_tasks_blocked()
        assert len(loft.store.reservations) == 1
        flights.cancel_scope.cancel()
    loft.assert_no_leftovers()
    assert loft.cached == set()
    assert host.open_answers == 0


async def test_two_downloads_of_one_resource_never_have_the_same_time(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    host = FakeTransport({WANTED.path: BODY})
    times: list[int] = []
    async with open_loft(tmp_path, {"one.invalid": host}, LoftPlan(max_cache=1)) as loft:
        for _ in range(3):  # within one second: the clock that jumps is another one
            reader = await loft.library.obtain(WANTED.resource)
            assert isinstance(reader, FlightReader)
            times.append(reader.mtime_seconds)
            await reader.flight.wait_settled()
            reader.close()
    assert len(set(times)) == 3
    assert times[0] > time.time() - 60

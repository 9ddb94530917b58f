"""What readers get, and what is left, when storage servers fail or lie."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest
import trio
from tests.fakes import MISSING, Behaviour, FakeTransport, Pieces, good
from tests.lofts import open_loft, ranges_of, tarball

from pkgserver_trio.errors import NotFoundError, ResourceUnavailableError, UpstreamFailedError, UpstreamSilentError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lofts import Loft, Reading
    from trio.testing import MockClock

WANTED = tarball("wanted", 40_000)
BODY = WANTED.body
HALF = WANTED.size // 2
DAMAGED = BODY[:HALF] + bytes([BODY[HALF] ^ 0xFF]) + BODY[HALF + 1 :]
OTHER = tarball("other", 40_000).body
SLOW = Pieces(size=4096, pause=0.1)  # readers take their bytes while more of them come

WRONG_BODIES = {
    "another tree": Behaviour(body=OTHER, pieces=SLOW),
    "another tree, chunked": Behaviour(body=OTHER, pieces=SLOW, declared_length=None),
    "damaged gzip": Behaviour(body=DAMAGED, pieces=SLOW),
    "wrong checksum": Behaviour(body=BODY[:-8] + b"\xff" * 8, pieces=SLOW),
    "garbage behind": Behaviour(body=BODY + b"garbage", pieces=SLOW),
    "half a body, closed": Behaviour(body=BODY, pieces=SLOW, close_at=HALF),
    "half a body, reset": Behaviour(body=BODY, pieces=SLOW, reset_at=HALF),
    "half a body, silent": Behaviour(body=BODY, pieces=SLOW, stall_at=HALF),
    "half a body, chunked": Behaviour(body=BODY, pieces=SLOW, close_at=HALF, declared_length=None),
    "half a body, said to be all": Behaviour(body=BODY[:HALF], pieces=SLOW),
    "all but a byte, said to be all": Behaviour(body=BODY[:-1], pieces=SLOW, declared_length=None),
    "longer than sent": Behaviour(body=BODY, pieces=SLOW, declared_length=WANTED.size + 1),
    "empty": Behaviour(),
    "empty, chunked": Behaviour(declared_length=None),
    "HTML": Behaviour(body=b"<html>It works!</html>", headers={"content-type": "text/html"}),
    "an empty gzip": Behaviour(body=gzip.compress(b"", mtime=0)),
}
wrong_bodies = pytest.mark.parametrize("wrong", WRONG_BODIES.values(), ids=WRONG_BODIES)


async def try_to_read(loft: Loft, start: int, stop: int | None) -> Reading | ResourceUnavailableError:
    try:
        return await loft.get(WANTED.resource, start, stop)
    except ResourceUnavailableError as error:
        return error


@wrong_bodies
async def test_no_reader_of_a_wrong_body_gets_its_last_byte(
    tmp_path: Path, autojump_clock: MockClock, wrong: Behaviour
) -> None:
    host = FakeTransport(script={("GET", WANTED.path): wrong, ("HEAD", WANTED.path): good(BODY)})

    async def be_client(loft: Loft, start: int, stop: int | None) -> None:
        outcome = await try_to_read(loft, start, stop)
        loft.assert_no_leftovers()
        if not isinstance(outcome, ResourceUnavailableError):
            assert outcome.broken
            assert len(outcome.body) < (len(wrong.body) if stop is None else stop) - start

    async with open_loft(tmp_path, {"one.invalid": host}) as loft:
        async with trio.open_nursery() as clients:
            for start, stop in ranges_of(WANTED.size):
                clients.start_soon(be_client, loft, start, stop)
        assert loft.cached == set()
        host.script = {}
        host.files = {WANTED.path: BODY}
        assert (await loft.get(WANTED.resource)).body == BODY
    assert loft.cached == {WANTED.resource.name}


@wrong_bodies
async def test_who_had_no_byte_when_the_last_server_failed_hears_the_verdict_and_asks_no_more(
    tmp_path: Path, autojump_clock: MockClock, wrong: Behaviour
) -> None:
    host = FakeTransport(script={("GET", WANTED.path): wrong, ("HEAD", WANTED.path): good(BODY)})
    async with open_loft(tmp_path, {"one.invalid": host}) as loft:
        with pytest.raises((UpstreamFailedError, UpstreamSilentError)):
            await loft.get(WANTED.resource, WANTED.size - 1, WANTED.size)
        assert host.requests("GET", WANTED.path) == 1
        loft.assert_no_leftovers()


@wrong_bodies
async def test_who_had_no_byte_yet_is_served_by_the_next_server(
    tmp_path: Path, autojump_clock: MockClock, wrong: Behaviour
) -> None:
    bad = FakeTransport(script={("GET", WANTED.path): wrong, ("HEAD", WANTED.path): good(BODY)})
    fine = FakeTransport(script=lambda _: Behaviour(body=BODY, delay_before_head=1))
    readings: list[Reading] = []

    async def want_the_last_byte(loft: Loft) -> None:  # which is held back: the client has none yet
        readings.append(await loft.get(WANTED.resource, WANTED.size - 1, WANTED.size))

    async with open_loft(tmp_path, {"bad.invalid": bad, "fine.invalid": fine}) as loft, trio.open_nursery() as clients:
        for _ in range(3):
            clients.start_soon(want_the_last_byte, loft)
    assert [reading.body for reading in readings] == [BODY[-1:]] * 3
    assert (bad.requests("GET", WANTED.path), fine.requests("GET", WANTED.path)) == (1, 1)
    assert loft.cached == {WANTED.resource.name}
    loft.assert_no_leftovers()


async def test_who_had_a_byte_of_a_wrong_body_is_cut_off_and_may_come_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    bad = FakeTransport(script=lambda _: Behaviour(body=BODY, pieces=SLOW, reset_at=HALF))
    fine = FakeTransport(script=lambda _: Behaviour(body=BODY, delay_before_head=1))
    async with open_loft(tmp_path, {"bad.invalid": bad, "fine.invalid": fine}) as loft:
        reading = await loft.get(WANTED.resource)
        assert reading.broken
        assert reading.body == BODY[: len(reading.body)]
        assert fine.requests("GET", WANTED.path) == 0
        bad.script = lambda _: MISSING
        assert (await loft.get(WANTED.resource)).body == BODY


ABSENT = [Behaviour(status=status) for status in (403, 404, 410)]
SILENT = [Behaviour(connect="hang"), Behaviour(never_answer=True), Behaviour(delay_before_head=60)]
BROKEN = [Behaviour(status=500), Behaviour(connect="refuse"), Behaviour(close_at=-1), Behaviour(status=204)]


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        (ABSENT, NotFoundError),
        (SILENT, UpstreamSilentError),
        (BROKEN, UpstreamFailedError),
        ([*SILENT, BROKEN[0]], UpstreamFailedError),
        ([*ABSENT, SILENT[0]], UpstreamSilentError),
        ([*ABSENT, BROKEN[0]], UpstreamFailedError),
        ([Behaviour(body=OTHER), MISSING], UpstreamFailedError),
    ],
)
async def test_the_verdict_is_what_all_servers_together_say(
    tmp_path: Path, autojump_clock: MockClock, answers: list[Behaviour], verdict: type[ResourceUnavailableError]
) -> None:
    paths = [("HEAD", WANTED.path), ("GET", WANTED.path)]
    hosts = {f"host{n}.invalid": FakeTransport(script=dict.fromkeys(paths, answer)) for n, answer in enumerate(answers)}
    async with open_loft(tmp_path, hosts) as loft:
        with pytest.raises(ResourceUnavailableError) as caught:
            await loft.library.hold(WANTED.resource)
        assert type(caught.value) is verdict
        assert {failure.server for failure in caught.value.failures} == {f"http://{host}" for host in hosts}
        loft.assert_no_leftovers()

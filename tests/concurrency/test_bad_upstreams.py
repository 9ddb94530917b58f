from __future__ import annotations

import gzip
import os
from functools import partial
from typing import TYPE_CHECKING

import pytest
from tests.concurrency.world import named, read_until_broken, tarball, world
from tests.fakes import BEFORE_HEAD, MISSING, Behaviour, FakeTransport, Pieces, good

from pkgserver_trio.errors import (
    NotFoundError,
    ResourceUnavailableError,
    UpstreamFailedError,
    UpstreamSilentError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes import Request
    from trio.testing import MockClock

BODY = tarball(os.urandom(300_000))
RESOURCE = named(BODY)
PATH = RESOURCE.path
HALF = len(BODY) // 2
DAMAGED = BODY[:-8] + bytes([BODY[-8] ^ 1]) + BODY[-7:]  # the CRC: all of it unpacks, and is wrong

# What a server does after a right HEAD. Each delivers bytes that must never become a complete answer.
LIES = {
    "another tree": good(tarball(os.urandom(300_000))),
    "damaged gzip": good(DAMAGED),
    "half a body": Behaviour(body=BODY, close_at=HALF),
    "half, reset": Behaviour(body=BODY, reset_at=HALF),
    "half, honestly declared": good(BODY[:HALF]),
    "half, in chunks": Behaviour(body=BODY, declared_length=None, close_at=HALF),
    "one byte short": Behaviour(body=BODY, close_at=len(BODY) - 1),
    "stalls": Behaviour(body=BODY, stall_at=HALF),
    "trailing garbage": good(BODY + b"garbage"),
    "empty": good(b""),
    "a page": good(b"<html>Please log in</html>" * 1000),
    "a bomb": good(gzip.compress(bytes(3 << 30), 1)[: 1 << 20]),
}
# What a server does instead of delivering, and what becomes of the request if it is the only one.
REFUSALS = {
    "404": (MISSING, NotFoundError),
    "403": (Behaviour(status=403), NotFoundError),
    "410": (Behaviour(status=410), NotFoundError),
    "500": (Behaviour(status=500), UpstreamFailedError),
    "503": (Behaviour(status=503), UpstreamFailedError),
    "refused": (Behaviour(connect="refuse"), UpstreamFailedError),
    "reset before the head": (Behaviour(reset_at=BEFORE_HEAD), UpstreamFailedError),
    "closed before the head": (Behaviour(close_at=BEFORE_HEAD), UpstreamFailedError),
    "no connection": (Behaviour(connect="hang"), UpstreamSilentError),
    "no head": (Behaviour(never_answer=True), UpstreamSilentError),
}


def _always(behaviour: Behaviour, _request: Request) -> Behaviour:
    return behaviour


def liar(behaviour: Behaviour) -> FakeTransport:
    """A server whose HEAD is right and whose GET is not."""
    return FakeTransport(script={("HEAD", PATH): good(BODY), ("GET", PATH): behaviour})


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize(("start", "stop"), [(0, None), (100, 200)])
async def test_wrong_bytes_never_complete_an_answer(
    tmp_path: Path, autojump_clock: MockClock, lie: str, start: int, stop: int | None
) -> None:
    upstream = liar(LIES[lie])
    async with world(tmp_path, upstream) as here:
        try:
            source = await here.library.obtain(RESOURCE)
        except UpstreamFailedError:
            pass  # it never began, which is as good
        else:
            got = await read_until_broken(source, start, stop)
            assert stop is None or len(got) < stop - start
            source.close()
        await here.settle()
        assert here.cached() == []
        assert here.is_clean()
        upstream.script = lambda _: good(BODY)
        assert await here.fetch(RESOURCE) == BODY, "it comes once the fault is gone"
        await here.settle()
        assert here.cached() == [RESOURCE.name]


@pytest.mark.parametrize("lie", LIES)
async def test_reader_without_a_byte_gets_the_right_ones_from_the_next_server(
    tmp_path: Path, autojump_clock: MockClock, lie: str
) -> None:
    slow_but_right = Behaviour(body=BODY, delay_before_head=1)
    honest = FakeTransport(script=lambda request: slow_but_right if request.method == "HEAD" else good(BODY))
    async with world(tmp_path, liar(LIES[lie]), honest) as here:
        flight = here.downloads.join(RESOURCE)
        await flight.wait_landed()
        assert await here.fetch(RESOURCE) == BODY
        await here.settle()
        assert here.cached() == [RESOURCE.name]
        assert here.is_clean()
    assert honest.requests("GET", PATH) == 1


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_only_server_that_refuses_decides_the_verdict(
    tmp_path: Path, autojump_clock: MockClock, refusal: str
) -> None:
    behaviour, error = REFUSALS[refusal]
    async with world(tmp_path, FakeTransport(script=lambda _: behaviour)) as here:
        with pytest.raises(ResourceUnavailableError) as raised:
            await here.fetch(RESOURCE)
        assert type(raised.value) is error
        assert "http://a" in str(raised.value)
        await here.settle()
        assert here.is_clean()


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_server_that_refuses_is_passed_over(tmp_path: Path, autojump_clock: MockClock, refusal: str) -> None:
    behaviour, _ = REFUSALS[refusal]
    good_head_only = liar(behaviour)
    async with world(tmp_path, FakeTransport(script=lambda _: behaviour), good_head_only) as here:
        slow = FakeTransport(script=lambda request: Behaviour(body=BODY, delay_before_head=request.method == "HEAD"))
        async with world(tmp_path / "other", FakeTransport(script=lambda _: behaviour), good_head_only, slow) as third:
            assert await third.fetch(RESOURCE) == BODY
        with pytest.raises(ResourceUnavailableError):
            await here.fetch(RESOURCE)


@pytest.mark.parametrize(
    ("one", "other", "error"),
    [
        ("404", "403", NotFoundError),
        ("404", "500", UpstreamFailedError),
        ("404", "no head", UpstreamSilentError),
        ("500", "no head", UpstreamFailedError),
        ("no head", "no connection", UpstreamSilentError),
    ],
)
async def test_not_found_needs_every_server_and_silence_all_the_others(
    tmp_path: Path, autojump_clock: MockClock, one: str, other: str, error: type[Exception]
) -> None:
    behaviours = [REFUSALS[name][0] for name in (one, other)]
    transports = [FakeTransport(script=partial(_always, behaviour)) for behaviour in behaviours]
    async with world(tmp_path, *transports) as here:
        for ask in (here.fetch, here.library.sight):
            with pytest.raises(error):
                await ask(RESOURCE)


async def test_what_no_server_has_is_remembered_for_a_while(tmp_path: Path, autojump_clock: MockClock) -> None:
    upstream = FakeTransport()
    async with world(tmp_path, upstream) as here:
        for _ in range(3):
            with pytest.raises(NotFoundError):
                await here.fetch(RESOURCE)
            with pytest.raises(NotFoundError):
                await here.library.sight(RESOURCE)
        assert upstream.requests("HEAD", PATH) == 1
        autojump_clock.jump(11)
        upstream.files = {PATH: BODY}
        assert await here.fetch(RESOURCE) == BODY
        here.library.forget_missing()


async def test_head_refused_by_a_server_is_no_reason_not_to_get(tmp_path: Path, autojump_clock: MockClock) -> None:
    refusing = FakeTransport(script={("HEAD", PATH): Behaviour(status=405), ("GET", PATH): good(BODY)})
    async with world(tmp_path, refusing) as here:
        sighting = await here.library.sight(RESOURCE)
        assert (sighting.cached, sighting.size_bytes) == (False, None)
        assert await here.fetch(RESOURCE) == BODY


async def test_head_downloads_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    upstream = FakeTransport({PATH: BODY})
    async with world(tmp_path, upstream) as here:
        sighting = await here.library.sight(RESOURCE)
        assert (sighting.cached, sighting.size_bytes) == (False, len(BODY))
        assert upstream.requests("GET", PATH) == 0
        await here.fetch(RESOURCE)
        await here.settle()
        sighting = await here.library.sight(RESOURCE)
        assert (sighting.cached, sighting.size_bytes) == (True, len(BODY))
    assert upstream.requests("HEAD", PATH) == 2


async def test_slow_trickle_arrives(tmp_path: Path, autojump_clock: MockClock) -> None:
    trickle = Behaviour(body=BODY, pieces=Pieces(size=10_000, pause=4))
    async with world(tmp_path, FakeTransport(script=lambda _: trickle)) as here:
        assert await here.fetch(RESOURCE) == BODY

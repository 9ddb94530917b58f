"""Any storage servers, any readers, any times: no answer completes with wrong bytes, and nothing is left."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from tests.fakes import Behaviour, FakeTransport, Pieces, strong_etag
from tests.lofts import Reading, open_loft, read_on, tarball
from trio.testing import MockClock

from pkgserver_trio.errors import ResourceUnavailableError
from pkgserver_trio.upstream.http_client import trust

if TYPE_CHECKING:
    from tests.lofts import Loft

WANTED = tarball("wanted", 5000)
_CONTENT = zlib.decompress(WANTED.body, 31)


def archived(mtime: int) -> bytes:
    """Return a tarball of the one tree whose bytes depend on the time from its middle on."""
    return gzip.compress(_CONTENT[:3000], mtime=0) + gzip.compress(_CONTENT[3000:], mtime=mtime)


RIGHT = (archived(0), archived(1), archived(0) + bytes(100))
SIZE = len(RIGHT[0])
OFFSETS = st.integers(0, SIZE) | st.sampled_from([1, SIZE - 1])
CALM = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}  # the patches stay the same


@st.composite
def copies(draw: st.DrawFn) -> bytes:
    """Draw what a server holds: a right copy, or one that was damaged, cut short or continued."""
    body = draw(st.sampled_from(RIGHT))
    at = draw(OFFSETS)
    damages = [body, body[:at] + b"damage" + body[at + 6 :], body[:at], body + b"more", tarball("other", 5000).body]
    return draw(st.sampled_from(damages))


@st.composite
def answers(draw: st.DrawFn, bodies: st.SearchStrategy[bytes], *, honest: bool) -> Behaviour:
    body = draw(bodies)
    faults = {} if honest else {draw(st.sampled_from(["stall_at", "reset_at", "close_at", "garbage"])): draw(OFFSETS)}
    if "garbage" in faults:  # no fault, this time
        faults = {}
    return replace(
        Behaviour(
            body=body,
            etag=draw(st.sampled_from([None, strong_etag(body)] if honest else [None, strong_etag(body), '"a liar"'])),
            declared_length=draw(st.sampled_from(["true", None])),
            ranges=draw(st.booleans()),
            pieces=Pieces(size=draw(st.sampled_from([97, 1500, 6000])), pause=draw(st.sampled_from([0, 0.01, 0.5]))),
        ),
        **faults,  # type: ignore[arg-type] # offsets, all of them
    )


@dataclass(frozen=True, slots=True)
class Server:
    """What it answers to HEAD, and in turn to GET."""

    head: Behaviour
    gets: list[Behaviour]

    def play(self) -> FakeTransport:
        return FakeTransport(script={("HEAD", WANTED.path): self.head, ("GET", WANTED.path): self.gets})


def servers(*, honest: bool) -> st.SearchStrategy[Server]:
    delays = st.sampled_from([0, 0.1, 1])
    heads = st.builds(Behaviour, delay_before_head=delays)
    if honest:
        return st.builds(Server, heads, st.lists(answers(st.sampled_from(RIGHT), honest=True), min_size=1, max_size=1))
    heads |= st.builds(Behaviour, status=st.sampled_from([404, 405, 500]), delay_before_head=delays)
    return st.builds(Server, heads, st.lists(answers(copies(), honest=False), min_size=1, max_size=3))


@dataclass(frozen=True, slots=True)
class Reader:
    """Who comes after some seconds, for the bytes `start` to `stop` (None: to the end)."""

    seconds: float
    start: int
    stop: int | None

    def is_right(self, body: bytes) -> bool:
        return any(body == right[self.start : self.stop] for right in RIGHT)

    async def read(self, loft: Loft) -> Reading | ResourceUnavailableError:
        await trio.sleep(self.seconds)
        try:
            return await read_on(await loft.library.obtain(WANTED.resource), self.start, self.stop)
        except ResourceUnavailableError as error:
            return error


@st.composite
def readers(draw: st.DrawFn) -> Reader:
    seconds = draw(st.floats(0, 12) | st.sampled_from([0, 5, 5.01]))
    start, stop = sorted((draw(OFFSETS), draw(OFFSETS)))
    return Reader(seconds, start, None if start == stop else stop)


async def play(hosts: dict[str, FakeTransport], audience: list[Reader], *, honest: bool) -> None:
    async def be(reader: Reader) -> None:
        outcomes.append((reader, await reader.read(loft)))

    outcomes: list[tuple[Reader, Reading | ResourceUnavailableError]] = []
    with TemporaryDirectory() as folder:
        async with open_loft(Path(folder), hosts) as loft:
            async with trio.open_nursery() as nursery:
                for reader in audience:
                    nursery.start_soon(be, reader)
            while len(loft.downloads.flights):  # noqa: ASYNC110 # pretended time; nobody tells when all are over
                await trio.sleep(1)
            loft.assert_no_leftovers()
            assert sum(host.open_answers for host in hosts.values()) == 0
            assert not honest or loft.cached == {WANTED.resource.name}
        assert all(file.read_bytes() in RIGHT for file in [loft.store.path(WANTED.resource)] if loft.cached)
    for reader, outcome in outcomes:
        event("unavailable" if isinstance(outcome, Exception) else "broken" if outcome.broken else "completed")
        if isinstance(outcome, Reading) and not outcome.broken:
            assert reader.is_right(outcome.body)
        assert not honest or not isinstance(outcome, ResourceUnavailableError)


@pytest.mark.parametrize("honest", [False, True])
@given(drawn=st.data())
@settings(max_examples=100, **CALM)  # type: ignore[arg-type] # both are what they should be
def test_no_answer_completes_with_wrong_bytes_and_one_honest_server_suffices(
    no_threads: None, monkeypatch: pytest.MonkeyPatch, drawn: st.DataObject, *, honest: bool
) -> None:
    tls = trust(None)
    monkeypatch.setattr("pkgserver_trio.upstream.asking.trust", lambda _: tls)  # slow to make
    crew = drawn.draw(st.lists(servers(honest=False), min_size=not honest, max_size=3))
    crew += [drawn.draw(servers(honest=True))] if honest else []
    order = drawn.draw(st.permutations(crew))
    hosts = {f"host{number}.invalid": server.play() for number, server in enumerate(order)}
    audience = drawn.draw(st.lists(readers(), min_size=1, max_size=4))

    async def main() -> None:
        await play(hosts, audience, honest=honest)

    trio.run(main, clock=MockClock(autojump_threshold=0))

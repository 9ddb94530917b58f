"""The fault table, row by row: with nobody else to ask, and with a good second server.

The bad server always wins the race of the probes. Times are those that an operator has who configured none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
from structlog.testing import capture_logs
from tests.fakes import Behaviour, FakeTransport, Pieces, good, strong_etag
from tests.faults import BODY, FAULTS, HALF, OTHER, SIZE, SLOW, WANTED, Fault, everywhere
from tests.lofts import LoftPlan, open_loft, ranges_of, tarball

from pkgserver_trio.downloads.transfer import MAX_RESUMES
from pkgserver_trio.errors import (
    BrokenOffError,
    NotFoundError,
    ResourceUnavailableError,
    UpstreamFailedError,
    UpstreamSilentError,
)
from pkgserver_trio.storage.hashing import Hashing
from pkgserver_trio.tarballs.stream import TarLimits

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lofts import Loft
    from trio.testing import MockClock

LIMITS = TarLimits(max_unpacked_bytes=1_000_000, max_members=100)
#: A client gives up after 20 s without a byte; none waits longer than this for one while any server can serve.
PATIENCE_SECONDS = 12


every_fault = pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)


def bad_server(fault: Fault) -> FakeTransport:
    return FakeTransport(script={("GET", WANTED.path): fault.get, ("HEAD", WANTED.path): fault.head})


def good_server() -> FakeTransport:
    """Return a server that is a little slower to answer a probe."""
    answer = Behaviour(body=BODY, delay_before_head=0.1)
    return FakeTransport({WANTED.path: BODY}, script={("HEAD", WANTED.path): answer})


@dataclass
class Client:
    """What one client saw: its bytes, the longest time without one, how it ended."""

    start: int
    stop: int | None
    body: bytes = b""
    longest_gap: float = 0
    broken: bool = False
    error: ResourceUnavailableError | None = None

    @property
    def right(self) -> bytes:
        return BODY[self.start : self.stop]

    async def ask(self, loft: Loft) -> None:
        """Ask as the web does."""
        last = trio.current_time()
        try:
            while not self.body:  # an answer that broke off before its first byte
                source = await loft.library.obtain(WANTED.resource, peer="client")
                end = source.size_bytes if self.stop is None else self.stop
                try:
                    while piece := await source.read(self.start + len(self.body), end):  # type: ignore[arg-type] # None is for flights
                        self.longest_gap = max(self.longest_gap, trio.current_time() - last)
                        last = trio.current_time()
                        self.body += piece
                except BrokenOffError:
                    self.broken = bool(self.body)
                finally:
                    source.close()
        except ResourceUnavailableError as error:
            self.error = error


async def be_clients(loft: Loft) -> list[Client]:
    clients = [Client(start, stop) for start, stop in ranges_of(SIZE)]
    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(client.ask, loft)
    return clients


def plan() -> LoftPlan:
    return LoftPlan(hashing=Hashing(LIMITS))


@every_fault
async def test_with_nobody_else_no_answer_completes_nothing_is_left_and_it_comes_through_afterwards(
    tmp_path: Path, autojump_clock: MockClock, fault: Fault
) -> None:
    host = bad_server(fault)
    async with open_loft(tmp_path, {"bad.invalid": host}, plan()) as loft:
        for client in await be_clients(loft):
            assert client.broken or client.error is not None
            assert not client.body or client.broken
        loft.assert_no_leftovers()
        assert loft.cached == set()
        assert host.open_answers == 0
        host.script, host.files = {}, {WANTED.path: BODY}
        await trio.sleep(60)
        (client, *_) = await be_clients(loft)
        assert client.body == BODY
        loft.assert_no_leftovers()
    assert loft.cached == {WANTED.resource.name}


@every_fault
async def test_with_a_good_second_server_right_bytes_come_without_a_long_silence(
    tmp_path: Path, autojump_clock: MockClock, fault: Fault
) -> None:
    hosts = {"bad.invalid": bad_server(fault), "good.invalid": good_server()}
    async with open_loft(tmp_path, hosts, plan()) as loft:
        clients = await be_clients(loft)
        for client in clients:
            assert client.error is None
            assert client.longest_gap < PATIENCE_SECONDS
            assert client.body == client.right or (client.broken and fault.noticed)
        assert any(client.broken for client in clients) <= fault.noticed
        loft.assert_no_leftovers()
        assert loft.cached == {WANTED.resource.name}
        assert all(client.body == client.right for client in await be_clients(loft))
    assert (loft.store.root / "cache" / WANTED.resource.name).read_bytes() == BODY


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
        ([Behaviour(body=OTHER), Behaviour(status=404)], UpstreamFailedError),
    ],
)
async def test_the_verdict_is_what_all_servers_together_say(
    tmp_path: Path, autojump_clock: MockClock, answers: list[Behaviour], verdict: type[ResourceUnavailableError]
) -> None:
    hosts = {f"host{number}.invalid": bad_server(everywhere(answer)) for number, answer in enumerate(answers)}
    async with open_loft(tmp_path, hosts) as loft:
        with pytest.raises(ResourceUnavailableError) as caught:
            await loft.library.hold(WANTED.resource)
        assert type(caught.value) is verdict
        assert {failure.server for failure in caught.value.failures} == {f"http://{host}" for host in hosts}
        loft.assert_no_leftovers()


@every_fault
async def test_attempts_are_bounded(tmp_path: Path, autojump_clock: MockClock, fault: Fault) -> None:
    host = bad_server(fault)
    async with open_loft(tmp_path, {"bad.invalid": host}, plan()) as loft:
        with pytest.raises(ResourceUnavailableError):
            await loft.library.hold(WANTED.resource)
    assert host.requests("GET", WANTED.path) <= 2 or fault.get.status == 302


async def test_resumptions_are_bounded_and_all_attempts_are_told_in_one_line(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    dripping = Behaviour(body=BODY, etag=strong_etag(BODY), pieces=SLOW, reset_at=5000)
    hosts = {"bad.invalid": bad_server(Fault(get=dripping)), "good.invalid": good_server()}
    with capture_logs() as lines:
        async with open_loft(tmp_path, hosts, plan()) as loft:
            await loft.library.hold(WANTED.resource)
    assert hosts["bad.invalid"].requests("GET", WANTED.path) == 1 + MAX_RESUMES
    (line,) = lines
    assert (line["event"], line["server"]) == ("downloaded", "http://good.invalid")
    assert len(line["failures"]) == 1 + MAX_RESUMES


async def test_however_many_servers_fall_silent_a_client_waits_for_less_than_it_has_patience(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    silent = Behaviour(body=BODY, stall_at=HALF)
    faults = [Fault(get=silent, head=Behaviour(body=BODY, delay_before_head=number / 100)) for number in range(6)]
    hosts = {f"bad{number}.invalid": bad_server(fault) for number, fault in enumerate(faults)}
    hosts["good.invalid"] = good_server()
    async with open_loft(tmp_path, hosts, plan()) as loft:
        clients = await be_clients(loft)
    assert [client.body for client in clients] == [client.right for client in clients]
    assert max(client.longest_gap for client in clients) < PATIENCE_SECONDS


@pytest.mark.parametrize("give_etag", [True, False])
async def test_a_reset_download_is_resumed_on_the_same_server_if_it_names_its_copy(
    tmp_path: Path, autojump_clock: MockClock, *, give_etag: bool
) -> None:
    whole = good(BODY) if give_etag else Behaviour(body=BODY)
    cut = Behaviour(body=BODY, etag=whole.etag, pieces=SLOW, reset_at=HALF)
    host = FakeTransport(script={("HEAD", WANTED.path): whole, ("GET", WANTED.path): [cut, whole]})
    async with open_loft(tmp_path, {"one.invalid": host}, plan()) as loft:
        clients = await be_clients(loft)
    assert [client.body for client in clients] == [client.right for client in clients]
    gets = [request.headers for request in host.seen if request.method == "GET"]
    assert [headers.get("range") for headers in gets] == [None, f"bytes={HALF}-" if give_etag else None]
    assert [headers.get("if-range") for headers in gets] == [None, whole.etag]


async def test_a_turn_that_comes_late_is_taken_off_the_silence_of_servers(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    other = tarball("another", 40_000)
    faults = [
        Fault(get=Behaviour(never_answer=True), head=Behaviour(body=BODY, delay_before_head=number / 100))
        for number in range(3)
    ]
    hosts = {f"bad{number}.invalid": bad_server(fault) for number, fault in enumerate(faults)}
    busy = good_server()
    in_4_9_seconds = Behaviour(body=other.body, pieces=Pieces(size=other.size // 49 + 1, pause=0.1))
    busy.files = {**busy.files, other.path: other.body}
    busy.script = {("GET", other.path): in_4_9_seconds, ("HEAD", WANTED.path): Behaviour(delay_before_head=0.1)}
    async with (
        open_loft(tmp_path, {**hosts, "good.invalid": busy}, LoftPlan(max_downloads=1)) as loft,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(partial(loft.library.hold, other.resource, peer="another"))
        await trio.sleep(0.2)
        client = Client(0, None)
        await client.ask(loft)
    assert (client.error, client.body) == (None, BODY)
    assert client.longest_gap < PATIENCE_SECONDS

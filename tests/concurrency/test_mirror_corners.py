"""Corners of the mirror: what an origin says once in a while, and who leaves at which moment."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
from tests.fakes import MISSING, FakeTransport, Pieces, good
from tests.mirrors import NEW, OLD, Gallery, Got, named, open_gallery

from pkgserver_trio.downloads.flight import FlightReader
from pkgserver_trio.errors import (
    NotFoundError,
    PeerOverBoundError,
    QueueFullError,
    ShuttingDownError,
    UpstreamFailedError,
)
from pkgserver_trio.mirror import mirror as module
from pkgserver_trio.mirror.digesting import DigestProof
from pkgserver_trio.mirror.object_origin import PassedAnswer
from pkgserver_trio.mirror.passage import Passage
from pkgserver_trio.mirror.versions import Word
from pkgserver_trio.opening import StartError, open_records
from pkgserver_trio.statistics import ServerTally
from pkgserver_trio.tarballs.inflate import TarballError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.fakes import Behaviour, Request
    from trio.testing import MockClock

KEY, PATH = "a", "/a"
IMPATIENT = {"PKGSERVER_MIRROR_STALE_WHILE_REVALIDATE_SECONDS": "0"}
SIGNED = "[default]\naws_access_key_id = key\naws_secret_access_key = secret\n"


def by_method(**behaviours: Behaviour) -> Callable[[Request], Behaviour]:
    return lambda request: behaviours[request.method]


async def test_an_origin_that_has_an_object_and_does_not_send_it_is_an_error(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    origin = FakeTransport(script=by_method(HEAD=good(OLD), GET=replace(MISSING, status=500)))
    async with open_gallery(tmp_path, origin) as gallery:
        with pytest.raises(UpstreamFailedError):
            await gallery.get(KEY)
        gallery.assert_no_leftovers()


async def test_a_reader_of_what_is_still_that_version_is_told_why_it_broke(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    broken = replace(good(OLD), reset_at=100, ranges=False, pieces=Pieces(size=50, pause=1))
    origin = FakeTransport(script=by_method(HEAD=good(OLD), GET=broken))
    async with open_gallery(tmp_path, origin) as gallery:
        served = await gallery.mirror.obtain(named(KEY), {}, peer="client")
        assert isinstance(served.source, FlightReader)
        with pytest.raises(UpstreamFailedError):
            await served.source.whole()
        with pytest.raises(UpstreamFailedError):
            gallery.mirror.note_lost(named(KEY), served.source)
        gallery.mirror.versions.records.drop(named(KEY))
        gallery.mirror.note_lost(named(KEY), served.source)  # it may be another one by now: asking again is of use
        gallery.mirror.versions.doubt(named(KEY), served.source.flight.resource)  # of which nothing is known
        served.source.close()


async def test_a_precondition_that_fails_is_an_object_that_was_overwritten(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    origin = FakeTransport()

    def answer(request: Request) -> Behaviour:
        if request.method == "GET" and origin.requests("GET", PATH) == 1:
            return replace(MISSING, status=412)
        return good(OLD) if len(origin.seen) == 1 else good(NEW)

    origin.script = answer
    async with open_gallery(tmp_path, origin) as gallery:
        assert (await gallery.get(KEY)).body == NEW


@pytest.mark.parametrize("content_range", [None, "bytes 0-99/3000"])
async def test_what_breaks_off_goes_on_where_it_was_or_not_at_all(
    tmp_path: Path, autojump_clock: MockClock, content_range: str | None
) -> None:
    origin = FakeTransport()

    def answer(request: Request) -> Behaviour:
        whole = good(OLD)
        if request.method == "HEAD":
            return whole
        if "range" not in request.headers:
            return replace(whole, close_at=1000)
        return replace(whole, headers={} if content_range is None else {"content-range": content_range})

    origin.script = answer
    async with open_gallery(tmp_path, origin) as gallery:
        if content_range is None:
            assert (await gallery.get(KEY)).body == OLD
            assert origin.seen[-1].headers["if-range"] == good(OLD).etag
        else:
            origin.script = lambda request: replace(
                answer(request), status=206 if "range" in request.headers else 200, etag=good(OLD).etag
            )
            got = await gallery.get(KEY)
            assert (got.broken, OLD.startswith(got.body)) == (True, True)


async def test_an_object_without_a_tag_is_asked_about_by_its_date(tmp_path: Path, autojump_clock: MockClock) -> None:
    dated = replace(good(OLD), etag=None, headers={"last-modified": "Sun, 06 Nov 1994 08:49:37 GMT"})
    origin = FakeTransport(script=lambda _: dated)
    async with open_gallery(tmp_path, origin, **IMPATIENT) as gallery:
        assert await gallery.get(KEY) == Got(OLD, Word.MISS)
        await trio.sleep(101)
        origin.script = lambda request: replace(dated, status=304 if "if-modified-since" in request.headers else 200)
        assert await gallery.get(KEY) == Got(OLD, Word.REVALIDATED)


@pytest.mark.parametrize(("tag", "expected"), [('"other"', NEW), (f"W/{good(OLD).etag}", OLD), (None, OLD)])
async def test_not_modified_with_another_tag_confirms_nothing(
    tmp_path: Path, autojump_clock: MockClock, tag: str | None, expected: bytes
) -> None:
    origin = FakeTransport({PATH: OLD})
    async with open_gallery(tmp_path, origin, **IMPATIENT) as gallery:
        await gallery.get(KEY)
        await trio.sleep(101)
        not_modified = replace(MISSING, status=304, etag=tag)
        origin.script = lambda request: not_modified if "if-none-match" in request.headers else good(NEW)
        assert (await gallery.get(KEY)).body == expected


@pytest.mark.parametrize("told", [{"last-modified": "Sat, 05 Nov 1994 08:49:37 GMT"}, {"etag": '"new"'}])
async def test_not_modified_with_another_date_confirms_nothing_without_a_tag(
    tmp_path: Path, autojump_clock: MockClock, told: dict[str, str]
) -> None:
    dated = replace(good(OLD), etag=None, headers={"last-modified": "Sun, 06 Nov 1994 08:49:37 GMT"})
    origin = FakeTransport(script=lambda _: dated)
    async with open_gallery(tmp_path, origin, **IMPATIENT) as gallery:
        await gallery.get(KEY)
        await trio.sleep(101)
        not_modified = replace(MISSING, status=304, headers=told)
        origin.script = lambda request: not_modified if "if-modified-since" in request.headers else good(NEW)
        assert (await gallery.get(KEY)).body == NEW


async def test_not_modified_says_nothing_of_what_is_not_known(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_gallery(tmp_path, FakeTransport(script=lambda _: replace(MISSING, status=304))) as gallery:
        with pytest.raises(UpstreamFailedError):
            await gallery.get(KEY)


async def test_an_origin_that_has_just_failed_is_left_alone_while_what_is_held_is_served(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    origin = FakeTransport({PATH: OLD})
    async with open_gallery(tmp_path, origin) as gallery:
        await gallery.get(KEY)
        await trio.sleep(101)
        origin.script = lambda _: replace(MISSING, status=500)
        for _ in range(3):
            assert await gallery.get(KEY) == Got(OLD, Word.STALE)
            await trio.testing.wait_all_tasks_blocked()
        assert origin.requests("HEAD", PATH) == 2


async def test_a_part_of_what_is_not_there_is_told_and_remembered(tmp_path: Path, autojump_clock: MockClock) -> None:
    origin = FakeTransport()
    async with open_gallery(tmp_path, origin) as gallery:
        for _ in range(2):
            with pytest.raises(NotFoundError):
                await gallery.get(KEY, Range="bytes=0-1")
        assert len(origin.seen) == 1
        gallery.assert_no_leftovers()


@pytest.mark.parametrize(
    ("bound", "error"), [("_MAX_PASSAGES", QueueFullError), ("_MAX_PASSAGES_EACH", PeerOverBoundError)]
)
async def test_what_is_passed_through_is_bounded_in_all_and_for_each_client(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, bound: str, error: type[Exception]
) -> None:
    monkeypatch.setattr(module, bound, 1)
    slow = replace(good(OLD), pieces=Pieces(size=100, pause=1))
    async with open_gallery(tmp_path, FakeTransport(script=lambda _: slow)) as gallery, trio.open_nursery() as clients:
        clients.start_soon(partial(gallery.get, KEY, Range="bytes=0-500"))
        await trio.sleep(1.5)
        with pytest.raises(error):
            await gallery.get(KEY, Range="bytes=0-500")
        await trio.sleep(10)
        assert (await gallery.get(KEY, Range="bytes=0-50")).body == OLD[:51]


@pytest.mark.parametrize("moment", [0.5, 1.5])
async def test_a_client_that_leaves_ends_what_is_passed_through_for_it(
    tmp_path: Path, autojump_clock: MockClock, moment: float
) -> None:
    slow = replace(good(OLD), delay_before_head=1, pieces=Pieces(size=100, pause=1))
    async with open_gallery(tmp_path, FakeTransport(script=lambda _: slow)) as gallery:
        with trio.move_on_after(moment):
            await gallery.get(KEY, Range="bytes=0-2000")
        await trio.sleep(10)
        gallery.assert_no_leftovers()


async def test_who_waits_for_a_passage_hears_that_the_server_stops(tmp_path: Path, autojump_clock: MockClock) -> None:
    silent = replace(good(OLD), never_answer=True)
    told = []

    async def ask(gallery: Gallery) -> None:
        with pytest.raises(ShuttingDownError):
            await gallery.get(KEY, Range="bytes=0-1")
        told.append("the server stops")

    origin = FakeTransport(script=lambda _: silent)
    async with trio.open_nursery() as clients, open_gallery(tmp_path, origin) as gallery:
        clients.start_soon(ask, gallery)  # noqa: ASYNC111 # it ends when the flights do
        await trio.testing.wait_all_tasks_blocked()
        gallery.mirror._nursery.cancel_scope.cancel()
    assert told


async def test_a_passage_that_nobody_waits_for_ends_though_its_origin_is_silent(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    silent = replace(good(OLD), never_answer=True)
    async with open_gallery(tmp_path, FakeTransport(script=lambda _: silent)) as gallery:
        with trio.move_on_after(1) as leaving:
            await gallery.get(KEY, Range="bytes=0-1")
        await trio.testing.wait_all_tasks_blocked()
        assert leaving.cancelled_caught
        assert not gallery.mirror._passages


async def test_a_passage_that_is_closed_between_two_pieces_ends_at_once(autojump_clock: MockClock) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"first"
        await trio.sleep_forever()

    @asynccontextmanager
    async def opened() -> AsyncIterator[PassedAnswer]:
        yield PassedAnswer(200, {}, None, pieces())

    passage = Passage(opened(), ServerTally())
    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(passage.run)
            assert await passage.read(0, None) == b"first"
            passage.close()


async def test_a_signed_request_spells_its_key_as_the_signature_does(tmp_path: Path, autojump_clock: MockClock) -> None:
    credentials = tmp_path / "credentials"
    credentials.write_text(SIGNED)
    origin = FakeTransport(script=lambda _: good(OLD))
    async with open_gallery(tmp_path, origin, PKGSERVER_MIRROR_CREDENTIALS_FILE=str(credentials)) as gallery:
        assert (await gallery.get("a+b%2Fc")).body == OLD
    assert {request.path for request in origin.seen} == {"/a%2Bb/c"}
    assert all("authorization" in request.headers for request in origin.seen)


async def test_a_file_that_cannot_be_digested_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail() -> None:
        raise TarballError("the file became shorter while it was read")

    async with open_gallery(tmp_path, FakeTransport({PATH: OLD})) as gallery:
        served = await gallery.mirror.obtain(named(KEY), {}, peer="client")
        assert isinstance(served.source, FlightReader)
        flight = served.source.flight
        proof = DigestProof(gallery.mirror._threads, None, flight.resource, flight.progress, served.source.file)
        monkeypatch.setattr(proof._follower, "follow", fail)
        assert await proof.find_fault() == "the file became shorter while it was read"
        await flight.wait_settled()
        served.source.close()


def test_records_that_cannot_be_opened_are_told(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"objects\.sqlite cannot be used"):
        open_records(tmp_path / "nowhere" / "objects.sqlite", lambda _: False)

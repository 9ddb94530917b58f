"""The mirror: which version is served, when the origin is asked, and what is left behind by whatever fails."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio
from structlog.testing import capture_logs
from tests.fakes import BEFORE_HEAD, MISSING, FakeTransport, Pieces, good
from tests.mirrors import EPOCH, HOST, NEW, OLD, Gallery, Got, named, open_gallery

from pkgserver_trio.errors import (
    ForbiddenError,
    NotFoundError,
    ResourceUnavailableError,
    ShuttingDownError,
    StorageFullError,
    UpstreamFailedError,
    UpstreamSilentError,
)
from pkgserver_trio.mirror.versions import Word

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fakes import Behaviour, Request
    from trio.testing import MockClock

KEY = "bin/julia.tar.gz"
PATH = f"/{KEY}"
POINTER = "bin/versions.json"


def always(behaviour: Behaviour) -> Callable[[Request], Behaviour]:
    return lambda _: behaviour


def md5_tag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


async def test_a_miss_asks_and_fetches_once_then_it_is_a_hit_without_the_origin(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    origin = FakeTransport({PATH: OLD})
    async with open_gallery(tmp_path, origin) as gallery:
        assert await gallery.get(KEY) == Got(OLD, Word.MISS)
        assert await gallery.get(KEY) == Got(OLD, Word.HIT)
        gallery.assert_no_leftovers()
    assert [request.method for request in origin.seen] == ["HEAD", "GET"]


async def test_fifty_clients_of_one_object_are_one_question_and_one_fetch(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    origin = FakeTransport({PATH: OLD})
    got: list[Got] = []

    async def ask(gallery: Gallery) -> None:
        got.append(await gallery.get(KEY))

    async with open_gallery(tmp_path, origin) as gallery:
        async with trio.open_nursery() as clients:
            for _ in range(50):
                clients.start_soon(ask, gallery)
        gallery.assert_no_leftovers()
    assert [item.body for item in got] == [OLD] * 50
    assert (origin.requests("HEAD", PATH), origin.requests("GET", PATH)) == (1, 1)


async def test_what_is_known_and_held_outlives_the_process(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_gallery(tmp_path, FakeTransport({PATH: OLD})) as gallery:
        await gallery.get(KEY)
    origin = FakeTransport()
    async with open_gallery(tmp_path, origin) as gallery:
        assert await gallery.get(KEY) == Got(OLD, Word.HIT)
    assert origin.seen == []


async def test_a_file_of_which_nothing_is_remembered_is_fetched_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_gallery(tmp_path, FakeTransport({PATH: OLD})) as gallery:
        await gallery.get(KEY)
    [file] = [path for path in (tmp_path / "mirror" / "cache").rglob("*") if path.is_file()]
    file.write_bytes(b"bad" * 1000)
    async with open_gallery(tmp_path, FakeTransport({PATH: OLD})) as gallery:
        assert await gallery.get(KEY) == Got(OLD, Word.MISS)


async def test_an_object_that_is_no_longer_fresh_is_served_while_it_is_asked_about(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    origin = FakeTransport({PATH: OLD})
    async with open_gallery(tmp_path, origin) as gallery:
        await gallery.get(KEY)
        await trio.sleep(101)
        origin.files = {PATH: NEW}
        assert await gallery.get(KEY) == Got(OLD, Word.STALE)
        await origin.wait_for("HEAD", PATH, 2)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert (await gallery.get(KEY)).body == NEW
        gallery.assert_no_leftovers()


async def test_an_object_that_is_as_it_was_is_prolonged(tmp_path: Path, autojump_clock: MockClock) -> None:
    origin = FakeTransport({PATH: OLD})
    async with open_gallery(tmp_path, origin, PKGSERVER_MIRROR_STALE_WHILE_REVALIDATE_SECONDS="0") as gallery:
        await gallery.get(KEY)
        await trio.sleep(101)
        assert await gallery.get(KEY) == Got(OLD, Word.REVALIDATED)
        assert await gallery.get(KEY) == Got(OLD, Word.HIT)
    assert origin.requests("GET", PATH) == 1
    assert "if-none-match" in {name.lower() for name in origin.seen[-1].headers}


async def test_a_pointer_is_never_older_than_a_minute_whatever_its_origin_says(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    said = {"cache-control": "max-age=86400"}
    origin = FakeTransport(script=always(replace(good(OLD), headers=said)))
    async with open_gallery(tmp_path, origin) as gallery:
        await gallery.get(POINTER)
        origin.script = always(replace(good(NEW), headers=said))
        await trio.sleep(59)
        assert (await gallery.get(POINTER)).body == OLD
        await trio.sleep(2)
        assert await gallery.get(POINTER) == Got(NEW, Word.EXPIRED)


@pytest.mark.parametrize("key", [KEY, POINTER])
async def test_an_origin_that_fails_is_answered_for_by_what_is_held(
    tmp_path: Path, autojump_clock: MockClock, key: str
) -> None:
    origin = FakeTransport({f"/{key}": OLD})
    changes = {
        "PKGSERVER_MIRROR_STALE_WHILE_REVALIDATE_SECONDS": "0",
        "PKGSERVER_MIRROR_STALE_IF_ERROR_SECONDS": "1000",
    }
    async with open_gallery(tmp_path, origin, **changes) as gallery:
        await gallery.get(key)
        origin.script = always(replace(good(b""), status=500))
        await trio.sleep(200)
        for _ in range(5):  # the last of them do not ask it any more
            assert await gallery.get(key) == Got(OLD, Word.STALE)
            await trio.sleep(1)
        await trio.sleep(1200)
        with pytest.raises(UpstreamFailedError):
            await gallery.get(key)


@pytest.mark.parametrize(
    ("status", "error", "level"),
    [(404, NotFoundError, "info"), (410, NotFoundError, "info"), (403, ForbiddenError, "warning")],
)
async def test_what_is_not_there_is_told_and_remembered_shortly(
    tmp_path: Path, autojump_clock: MockClock, status: int, error: type[Exception], level: str
) -> None:
    origin = FakeTransport(script=always(replace(MISSING, status=status)))
    with capture_logs() as lines:
        async with open_gallery(tmp_path, origin) as gallery:
            with pytest.raises(error):
                await gallery.get(KEY)
    (line,) = (line for line in lines if line["event"] == "object not to be had")
    assert (line["resource"], line["origin"], line["log_level"]) == (f"mirror/bucket{PATH}", f"http://{HOST}", level)
    assert f"status {status}" in line["reason"]
    origin.seen.clear()
    async with open_gallery(tmp_path, origin) as gallery:
        for _ in range(3):
            with pytest.raises(error):
                await gallery.get(KEY)
            with pytest.raises(error):
                await gallery.get(KEY, Range="bytes=0-1")
        assert len(origin.seen) == 1
        origin.script, origin.files = {}, {PATH: OLD}
        await trio.sleep(11)
        assert (await gallery.get(KEY)).body == OLD


FAULTS = {
    "500": (replace(good(OLD), status=500), UpstreamFailedError),
    "never answers": (replace(good(OLD), never_answer=True), UpstreamSilentError),
    "closes": (replace(good(OLD), close_at=BEFORE_HEAD), UpstreamFailedError),
}


@pytest.mark.parametrize(("behaviour", "error"), FAULTS.values(), ids=FAULTS)
async def test_an_origin_that_cannot_be_asked_is_an_error(
    tmp_path: Path, autojump_clock: MockClock, behaviour: Behaviour, error: type[Exception]
) -> None:
    async with open_gallery(tmp_path, FakeTransport(script=always(behaviour))) as gallery:
        with pytest.raises(error):
            await gallery.get(KEY)
        gallery.assert_no_leftovers()
        assert gallery.kept == 0


BODIES = {
    "stalls": replace(good(OLD), stall_at=100),
    "resets": replace(good(OLD), reset_at=100),
    "ends early": replace(good(OLD), close_at=100),
    "has another md5": replace(good(OLD), etag=md5_tag(NEW)),
}


@pytest.mark.parametrize("behaviour", BODIES.values(), ids=BODIES)
async def test_a_body_that_is_not_whole_and_right_never_looks_so_and_is_not_kept(
    tmp_path: Path, autojump_clock: MockClock, behaviour: Behaviour
) -> None:
    origin = FakeTransport(script=always(replace(behaviour, ranges=False)))
    async with open_gallery(tmp_path, origin) as gallery:
        try:
            got = await gallery.get(KEY)
        except ResourceUnavailableError:
            pass
        else:
            assert got.broken
            assert len(got.body) < len(OLD)
        await trio.testing.wait_all_tasks_blocked(0.01)
        gallery.assert_no_leftovers()
        assert gallery.kept == 0


async def test_a_right_md5_and_a_right_checksum_are_kept(tmp_path: Path, autojump_clock: MockClock) -> None:
    origin = FakeTransport(script=always(replace(good(OLD), etag=md5_tag(OLD))))
    async with open_gallery(tmp_path, origin) as gallery:
        assert await gallery.get(KEY) == Got(OLD, Word.MISS)
        assert gallery.kept == 1


async def test_what_is_overwritten_after_it_was_asked_about_is_begun_with_anew(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    origin = FakeTransport()
    async with open_gallery(tmp_path, origin) as gallery:
        origin.script = lambda request: good(OLD) if len(origin.seen) == 1 else good(NEW)
        assert (await gallery.get(KEY)).body == NEW
        gallery.assert_no_leftovers()
        assert gallery.kept == 1


async def test_what_is_overwritten_again_and_again_is_an_error(tmp_path: Path, autojump_clock: MockClock) -> None:
    origin = FakeTransport(script=lambda _: good(b"%d" % len(origin.seen) * 100))
    async with open_gallery(tmp_path, origin) as gallery:
        with pytest.raises(UpstreamFailedError, match="overwritten"):
            await gallery.get(KEY)
        gallery.assert_no_leftovers()
    assert len(origin.seen) < 20


async def test_what_is_overwritten_in_the_middle_is_never_mixed(tmp_path: Path, autojump_clock: MockClock) -> None:
    broken = replace(good(OLD), reset_at=1000, pieces=Pieces(size=500))
    origin = FakeTransport(
        script=lambda _: good(OLD) if len(origin.seen) < 2 else broken if len(origin.seen) == 2 else good(NEW)
    )
    async with open_gallery(tmp_path, origin) as gallery:
        got = await gallery.get(KEY)
        assert got.broken
        assert OLD.startswith(got.body)
        assert (await gallery.get(KEY)).body == NEW
        gallery.assert_no_leftovers()


async def test_a_wrong_length_that_was_told_once_is_not_confirmed_by_the_same_tag(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    right = good(OLD)
    origin = FakeTransport(script=always(replace(right, declared_length=len(OLD) + 1)))
    async with open_gallery(tmp_path, origin) as gallery:
        assert (await gallery.get(KEY)).broken
        origin.script = always(right)
        await trio.sleep(1)
        assert (await gallery.get(KEY)).body == OLD
        gallery.assert_no_leftovers()


async def test_a_part_of_what_is_not_held_is_passed_through_and_a_part_of_what_is_held_is_not(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    origin = FakeTransport({PATH: OLD})
    async with open_gallery(tmp_path, origin) as gallery:
        assert await gallery.get(KEY, Range="bytes=0-9") == Got(OLD[:10], Word.BYPASS)
        assert gallery.kept == 0
        await gallery.get(KEY)
        served = await gallery.mirror.obtain(named(KEY), {"Range": "bytes=0-9"}, peer="client")
        served.source.close()
        assert served.word is Word.HIT
        gallery.assert_no_leftovers()
    assert [request.method for request in origin.seen] == ["GET", "HEAD", "GET"]


async def test_a_passage_that_breaks_off_looks_broken_and_one_that_is_left_ends(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    origin = FakeTransport(script=always(replace(good(OLD), close_at=5)))
    async with open_gallery(tmp_path, origin) as gallery:
        assert (await gallery.get(KEY, Range="bytes=0-99")).broken
        origin.script = always(replace(good(OLD), pieces=Pieces(size=10)))
        served = await gallery.mirror.obtain(named(KEY), {"Range": "bytes=0-99"}, peer="client")
        await served.source.read(0, None)  # type: ignore[arg-type]
        served.source.close()
        await trio.testing.wait_all_tasks_blocked(0.01)
        gallery.assert_no_leftovers()


@pytest.mark.parametrize("said", [{"cache-control": "no-store"}, {"cache-control": "private"}, {"set-cookie": "a=b"}])
async def test_what_may_not_be_kept_is_passed_through(
    tmp_path: Path, autojump_clock: MockClock, said: dict[str, str]
) -> None:
    async with open_gallery(tmp_path, FakeTransport(script=always(replace(good(OLD), headers=said)))) as gallery:
        assert await gallery.get(KEY) == Got(OLD, Word.BYPASS)
        assert await gallery.get(KEY) == Got(OLD, Word.BYPASS)
        assert gallery.kept == 0


async def test_an_object_that_nothing_tells_from_others_is_passed_through(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_gallery(tmp_path, FakeTransport(script=always(replace(good(OLD), etag=None)))) as gallery:
        assert await gallery.get(KEY) == Got(OLD, Word.BYPASS)


async def test_an_origin_that_refuses_head_is_asked_by_get(tmp_path: Path, autojump_clock: MockClock) -> None:
    origin = FakeTransport(
        script=lambda request: replace(MISSING, status=405) if request.method == "HEAD" else good(OLD)
    )
    async with open_gallery(tmp_path, origin) as gallery:
        assert await gallery.get(KEY) == Got(OLD, Word.MISS)
        gallery.assert_no_leftovers()


async def test_head_fetches_nothing_and_is_remembered(tmp_path: Path, autojump_clock: MockClock) -> None:
    origin = FakeTransport({PATH: OLD})
    async with open_gallery(tmp_path, origin) as gallery:
        first = await gallery.mirror.sight(named(KEY), peer="client")
        second = await gallery.mirror.sight(named(KEY), peer="client")
        assert (first.word, second.word) == (Word.MISS, Word.HIT)
        assert second.record.checked == EPOCH
    assert [request.method for request in origin.seen] == ["HEAD"]


async def test_an_empty_object_is_an_object(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_gallery(tmp_path, FakeTransport({PATH: b""})) as gallery:
        assert await gallery.get(KEY) == Got(b"", Word.MISS)
        assert await gallery.get(KEY) == Got(b"", Word.HIT)


async def test_the_mirror_evicts_within_its_own_share(tmp_path: Path, autojump_clock: MockClock) -> None:
    origin = FakeTransport({f"/{number}": b"%d" % number * 1000 for number in range(5)})
    async with open_gallery(tmp_path, origin, PKGSERVER_MIRROR_MAX_CACHE="2500") as gallery:
        for number in range(5):
            assert (await gallery.get(str(number))).word is Word.MISS
        assert gallery.kept == 2
        assert (await gallery.get("4")).word is Word.HIT
        assert (await gallery.get("0")).word is Word.MISS  # its record is not enough
        gallery.assert_no_leftovers()


async def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_gallery(tmp_path, FakeTransport({PATH: OLD})) as gallery:
        disk = gallery.mirror.library.store.disk

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        disk.write = full  # type: ignore[assignment,method-assign]
        with pytest.raises(StorageFullError):
            await gallery.get(KEY)
        gallery.assert_no_leftovers()


async def test_while_the_server_stops_nothing_is_begun(tmp_path: Path, autojump_clock: MockClock) -> None:
    origin = FakeTransport({PATH: OLD, "/other": NEW})
    async with open_gallery(tmp_path, origin) as gallery:
        await gallery.get(KEY)
        gallery.mirror.drain()
        assert (await gallery.get(KEY)).word is Word.HIT
        for asked in ({}, {"Range": "bytes=0-1"}):
            with pytest.raises(ShuttingDownError):
                await gallery.get("other", **asked)
        await trio.sleep(101)
        assert (await gallery.get(KEY)).word is Word.STALE


@pytest.mark.parametrize("moment", [0.5, 1.5, 2.5, 3.5])
async def test_a_client_that_leaves_takes_nothing_with_it(
    tmp_path: Path, autojump_clock: MockClock, moment: float
) -> None:
    slow = replace(good(OLD), delay_before_head=1, pieces=Pieces(size=1500, pause=1))
    origin = FakeTransport(script=always(slow))
    async with open_gallery(tmp_path, origin) as gallery:
        with trio.move_on_after(moment):
            await gallery.get(KEY)
        assert (await gallery.get(KEY)).body == OLD
        gallery.assert_no_leftovers()
    assert (origin.requests("HEAD", PATH), origin.requests("GET", PATH)) == (1, 1)

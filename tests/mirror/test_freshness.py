"""Both mirrors before an origin whose objects change: for how long what is held is served."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio
from tests.behaviours import Behaviour
from tests.mirror.scripted import NEW, OLD, bucket_of
from tests.mirror.targets import FETCHED, PATIENCE_SECONDS, STALE, Wishes

if TYPE_CHECKING:
    from tests.mirror.scripted import Mirrors

pytestmark = pytest.mark.integration

POINTER = "juliaup/RELEASECHANNELVERSION"


async def test_what_is_over_is_asked_about_and_what_has_changed_is_fetched(mirrors: Mirrors) -> None:
    async with bucket_of(mirrors, ttl_seconds=1) as bucket:
        await bucket.hold("a")
        await bucket.over()
        assert (await bucket.told("a"))[:2] == (200, b"old")
        asked = [seen.headers["if-none-match"] for seen in bucket.seen if "if-none-match" in seen.headers]
        assert set(asked) == {OLD.etag}
        assert bucket.fetched("a") == 1
        bucket.now = NEW
        await bucket.over()
        status, body, word = await bucket.told("a")
        assert (status, body, word in FETCHED) == (200, b"newer", True)


async def test_an_origin_that_says_how_long_is_obeyed(mirrors: Mirrors) -> None:
    past = "Thu, 01 Jan 1970 00:00:00 GMT"
    async with bucket_of(mirrors) as bucket:
        for key, headers in {
            "short": {"cache-control": "max-age=1"},
            "shared": {"cache-control": "s-maxage=1, max-age=900"},
            "over": {"expires": past, "date": past},
        }.items():
            bucket.now = replace(OLD, headers=headers)
            assert (await bucket.get(key)).headers.get("Cache-Control") == headers.get("cache-control")
        bucket.now = replace(OLD, headers={"cache-control": "max-age=900"})
        await bucket.hold("long")
        bucket.now = NEW
        await bucket.over()
        told = [(await bucket.told(key))[1] for key in ("short", "shared", "over", "long")]
        assert told == [b"newer"] * 3 + [b"old"]


async def test_what_must_not_be_kept_is_not(mirrors: Mirrors) -> None:
    async with bucket_of(mirrors) as bucket:
        for key, headers in {
            "a": {"cache-control": "no-store"},
            "b": {"cache-control": "private, max-age=900"},
            "c": {"set-cookie": "who=you"},
        }.items():
            bucket.now = replace(OLD, headers=headers)
            first = await bucket.get(key)
            assert (first.content, "Set-Cookie" in first.headers) == (b"old", False)
            bucket.now = NEW
            assert (await bucket.get(key)).content == b"newer"


async def test_a_pointer_is_never_older_than_a_minute_nor_served_while_it_is_asked_about(mirrors: Mirrors) -> None:
    wishes = Wishes(stale_while_revalidate_seconds=600, stale_if_error_seconds=600)
    async with bucket_of(mirrors, wishes) as bucket:
        for age, key in ((0, POINTER), (58, "bin/versions.json"), (0, "other")):
            bucket.now = replace(OLD, headers={"cache-control": "max-age=31536000", "age": str(age)})
            assert (await bucket.get(key)).content == b"old"
        bucket.now = NEW
        await trio.sleep(3)
        assert [(await bucket.told(key))[1] for key in (POINTER, "bin/versions.json", "other")] == [
            b"old",  # three seconds old
            b"newer",  # it was a minute old
            b"old",
        ]


async def test_nobody_keeps_an_old_pointer_fresh(mirrors: Mirrors) -> None:
    """Neither by a condition of his own, nor by a range, nor by asking again and again."""
    async with bucket_of(mirrors, Wishes(stale_while_revalidate_seconds=600), ttl_seconds=1) as bucket:
        await bucket.hold(POINTER)
        bucket.now = NEW
        await bucket.over()
        for lines in ({"Range": "bytes=0-"}, {"Range": "bytes=0-1"}, {}):
            for ask in (bucket.client.head, bucket.client.get):
                await ask(f"/{POINTER}", headers={"If-None-Match": str(NEW.etag), **lines})
        assert (await bucket.get(POINTER)).content == b"newer"


async def test_what_is_over_is_served_while_it_is_asked_about(mirrors: Mirrors) -> None:
    async with bucket_of(mirrors, Wishes(stale_while_revalidate_seconds=600), ttl_seconds=1) as bucket:
        await bucket.hold("a")
        bucket.now = NEW
        await bucket.over()
        status, body, word = await bucket.told("a")
        assert (status, body, word in STALE) == (200, b"old", True)
        with trio.fail_after(PATIENCE_SECONDS):
            while (await bucket.get("a")).content != b"newer":
                pass


@pytest.mark.parametrize("failing", [Behaviour(status=503), Behaviour(reset_at=-1)], ids=["503", "reset"])
async def test_what_is_over_is_served_while_the_origin_fails_as_long_as_it_may(
    mirrors: Mirrors, failing: Behaviour
) -> None:
    async with bucket_of(mirrors, Wishes(stale_if_error_seconds=600), ttl_seconds=1) as bucket:
        for key in ("a", POINTER):
            await bucket.hold(key)
        bucket.now = failing
        await bucket.over()
        for key in ("a", POINTER):
            assert await bucket.told(key) == (200, b"old", "STALE")
    async with bucket_of(mirrors, ttl_seconds=1) as bucket:
        await bucket.hold("a")
        bucket.now = failing
        await bucket.over()
        answer = await bucket.get("a")
        assert (answer.status_code, answer.headers["Cache-Control"]) == (502, "no-store")
        assert answer.headers["Retry-After"]

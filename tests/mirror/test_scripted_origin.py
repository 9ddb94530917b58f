"""Both mirrors before an origin that changes, fails and lies: what it is asked, and what clients are told meanwhile."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
from tests.behaviours import Behaviour, Pieces, good
from tests.fakes import FakeUpstream
from tests.mirror.targets import BUCKET, CONFIRMED, FETCHED, PATIENCE_SECONDS, STALE, TARGETS, Wishes, running_target
from tests.web.raw import connected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.parametrize("target", TARGETS)]

BODY = bytes(range(256)) * 4000
OLD, NEW = good(b"old"), good(b"newer")
POINTER = "juliaup/RELEASECHANNELVERSION"
#: Until what is fresh for one second is not any more: nginx counts whole ones.
OVER_SECONDS = 2.1


class Bucket:
    """An origin whose objects are all `now`, and a client of the bucket in the mirror before it."""

    def __init__(self, origin: FakeUpstream, client: httpx.AsyncClient) -> None:
        self.now = OLD
        self.origin, self.client = origin, client

    async def get(self, key: str, **headers: str) -> httpx.Response:
        return await self.client.get(f"/{key}", headers=headers)

    async def told(self, key: str) -> tuple[int, bytes, str | None]:
        answer = await self.get(key)
        return answer.status_code, answer.content, answer.headers.get("X-Cache")

    async def recovers(self, key: str) -> bytes:
        """Return an object once the mirror asks for it again: it leaves a failing origin alone for a moment."""
        with trio.fail_after(PATIENCE_SECONDS):
            while (answer := await self.get(key)).status_code == 502:
                pass
        return answer.content

    async def hold(self, key: str) -> None:
        """Have an object, as it is now, in the mirror's cache."""
        assert (await self.get(key)).status_code == 200
        with trio.fail_after(PATIENCE_SECONDS):
            while (await self.get(key)).headers["X-Cache"] not in {"HIT", *CONFIRMED}:
                pass

    def fetched(self, key: str) -> int:
        """Return how often the origin has sent the object from its start on."""
        return sum(
            (seen.method, seen.path) == ("GET", f"/{key}") and "if-none-match" not in seen.headers
            for seen in self.origin.seen
        )


@asynccontextmanager
async def bucket_of(target: str, folder: Path, wishes: Wishes | None = None) -> AsyncIterator[Bucket]:
    async with FakeUpstream(script=lambda _: bucket.now) as origin:
        with running_target(target, folder, origin.url, wishes) as url:
            async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS, trust_env=False) as client:
                bucket = Bucket(origin, client)
                yield bucket


async def test_fifty_clients_are_one_fetch(target: str, tmp_path: Path) -> None:
    release = trio.Event()
    async with bucket_of(target, tmp_path) as bucket:
        bucket.now = replace(good(BODY), pieces=Pieces(size=300_000, release=release))
        received = []

        async def ask() -> None:
            received.append((await bucket.get("a")).content == BODY)

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(ask)
            await bucket.origin.wait_for("GET", "/a")
            release.set()
        assert received == [True] * 50
        assert bucket.fetched("a") == 1


async def test_what_is_over_is_asked_about_and_what_has_changed_is_fetched(target: str, tmp_path: Path) -> None:
    async with bucket_of(target, tmp_path, Wishes(ttl_seconds=1)) as bucket:
        await bucket.hold("a")
        await trio.sleep(OVER_SECONDS)
        assert (await bucket.told("a"))[:2] == (200, b"old")
        asked = [seen.headers["if-none-match"] for seen in bucket.origin.seen if "if-none-match" in seen.headers]
        assert set(asked) == {OLD.etag}
        assert bucket.fetched("a") == 1
        bucket.now = NEW
        await trio.sleep(OVER_SECONDS)
        status, body, word = await bucket.told("a")
        assert (status, body, word in FETCHED) == (200, b"newer", True)


async def test_an_origin_that_says_how_long_is_obeyed(target: str, tmp_path: Path) -> None:
    past = "Thu, 01 Jan 1970 00:00:00 GMT"
    async with bucket_of(target, tmp_path) as bucket:
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
        await trio.sleep(OVER_SECONDS)
        told = [(await bucket.told(key))[1] for key in ("short", "shared", "over", "long")]
        assert told == [b"newer"] * 3 + [b"old"]


async def test_what_must_not_be_kept_is_not(target: str, tmp_path: Path) -> None:
    async with bucket_of(target, tmp_path) as bucket:
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


async def test_a_pointer_is_never_older_than_a_minute_nor_served_while_it_is_asked_about(
    target: str, tmp_path: Path
) -> None:
    wishes = Wishes(stale_while_revalidate_seconds=600, stale_if_error_seconds=600)
    async with bucket_of(target, tmp_path, wishes) as bucket:
        for age, key in ((0, POINTER), (58, "bin/versions.json"), (0, "other")):
            bucket.now = replace(OLD, headers={"cache-control": "max-age=31536000", "age": str(age)})
            assert (await bucket.get(key)).content == b"old"
        bucket.now = NEW
        await trio.sleep(OVER_SECONDS + 1)
        assert [(await bucket.told(key))[1] for key in (POINTER, "bin/versions.json", "other")] == [
            b"old",  # three seconds old
            b"newer",  # it was a minute old
            b"old",
        ]


async def test_nobody_keeps_an_old_pointer_fresh(target: str, tmp_path: Path) -> None:
    """Neither by a condition of his own, nor by a range, nor by asking again and again."""
    async with bucket_of(target, tmp_path, Wishes(ttl_seconds=1, stale_while_revalidate_seconds=600)) as bucket:
        await bucket.hold(POINTER)
        bucket.now = NEW
        await trio.sleep(OVER_SECONDS)
        for lines in ({"Range": "bytes=0-"}, {"Range": "bytes=0-1"}, {}):
            for ask in (bucket.client.head, bucket.client.get):
                await ask(f"/{POINTER}", headers={"If-None-Match": str(NEW.etag), **lines})
        assert (await bucket.get(POINTER)).content == b"newer"


async def test_what_is_over_is_served_while_it_is_asked_about(target: str, tmp_path: Path) -> None:
    async with bucket_of(target, tmp_path, Wishes(ttl_seconds=1, stale_while_revalidate_seconds=600)) as bucket:
        await bucket.hold("a")
        bucket.now = NEW
        await trio.sleep(OVER_SECONDS)
        status, body, word = await bucket.told("a")
        assert (status, body, word in STALE) == (200, b"old", True)
        with trio.fail_after(PATIENCE_SECONDS):
            while (await bucket.get("a")).content != b"newer":
                pass


@pytest.mark.parametrize("failing", [Behaviour(status=503), Behaviour(reset_at=-1)], ids=["503", "reset"])
async def test_what_is_over_is_served_while_the_origin_fails_as_long_as_it_may(
    target: str, tmp_path: Path, failing: Behaviour
) -> None:
    async with bucket_of(target, tmp_path, Wishes(ttl_seconds=1, stale_if_error_seconds=600)) as bucket:
        for key in ("a", POINTER):
            await bucket.hold(key)
        bucket.now = failing
        await trio.sleep(OVER_SECONDS)
        for key in ("a", POINTER):
            assert await bucket.told(key) == (200, b"old", "STALE")
    async with bucket_of(target, tmp_path / "strict", Wishes(ttl_seconds=1)) as bucket:
        await bucket.hold("a")
        bucket.now = failing
        await trio.sleep(OVER_SECONDS)
        answer = await bucket.get("a")
        assert (answer.status_code, answer.headers["Cache-Control"]) == (502, "no-store")
        assert answer.headers["Retry-After"]


@pytest.mark.parametrize("status", [403, 404])
async def test_a_refusal_is_passed_on_and_remembered_for_a_moment(target: str, tmp_path: Path, status: int) -> None:
    async with bucket_of(target, tmp_path) as bucket:
        bucket.now = Behaviour(status=status)
        assert [(await bucket.get("a")).status_code for _ in range(5)] == [status] * 5
        assert len(bucket.origin.seen) == 1


@pytest.mark.parametrize(
    "broken",
    [
        replace(good(BODY), close_at=50_000),
        replace(good(BODY), reset_at=50_000),
        replace(good(BODY), declared_length=len(BODY) + 1),
        replace(good(BODY), declared_length=None, close_at=50_000),
    ],
    ids=["FIN", "reset", "longer than it is", "chunks that break off"],
)
async def test_what_breaks_off_looks_broken_and_is_not_kept(target: str, tmp_path: Path, broken: Behaviour) -> None:
    async with bucket_of(target, tmp_path) as bucket:
        bucket.now = broken
        try:
            answer = await bucket.get("a")
        except httpx.HTTPError:
            pass
        else:
            assert answer.status_code == 502
        bucket.now = good(BODY)
        assert await bucket.recovers("a") == BODY


async def test_wrong_bytes_never_complete_an_answer_nor_are_kept(target: str, tmp_path: Path) -> None:
    if target == "nginx":
        pytest.skip("nginx cannot compute digests: docs/protocol.md lists that")
    tag = f'"{hashlib.md5(BODY, usedforsecurity=False).hexdigest()}"'
    async with bucket_of(target, tmp_path) as bucket:
        bucket.now = Behaviour(body=BODY[:-1] + b"x", etag=tag)
        try:
            answer = await bucket.get("a")
        except httpx.HTTPError:
            pass
        else:
            assert answer.status_code == 502
        bucket.now = Behaviour(body=BODY, etag=tag)
        assert await bucket.recovers("a") == BODY


async def test_an_object_that_is_overwritten_is_never_mixed(target: str, tmp_path: Path) -> None:
    release = trio.Event()
    other = bytes(reversed(BODY))
    async with bucket_of(target, tmp_path, Wishes(ttl_seconds=1)) as bucket:
        bucket.now = replace(good(BODY), pieces=Pieces(size=300_000, release=release))
        bodies = []

        async def ask() -> None:
            bodies.append((await bucket.get("a")).content)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await bucket.origin.wait_for("GET", "/a")
            bucket.now = good(other)  # the running one is still sent as it was
            nursery.start_soon(ask)
            release.set()
        assert all(body in {BODY, other} for body in bodies)
        await trio.sleep(OVER_SECONDS)
        for lines in ({}, {"Range": "bytes=0-"}):
            assert (await bucket.get("a", **lines)).content == other


async def test_a_slow_origin_is_waited_for(target: str, tmp_path: Path) -> None:
    async with bucket_of(target, tmp_path) as bucket:
        bucket.now = replace(good(BODY), delay_before_head=1, pieces=Pieces(size=250_000, pause=0.3))
        assert (await bucket.told("a"))[:2] == (200, BODY)


async def test_a_client_that_leaves_takes_the_fetch_from_nobody(target: str, tmp_path: Path) -> None:
    release = trio.Event()
    async with bucket_of(target, tmp_path) as bucket:
        bucket.now = replace(good(BODY), pieces=Pieces(size=300_000, release=release))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bucket.get, "a")
            await bucket.origin.wait_for("GET", "/a")
            nursery.cancel_scope.cancel()
        release.set()
        assert (await bucket.told("a"))[:2] == (200, BODY)
        assert bucket.fetched("a") == 1


async def test_an_origin_sees_keys_as_clients_write_them_and_nothing_else_of_them(target: str, tmp_path: Path) -> None:
    secrets = {"Authorization": "Bearer x", "Cookie": "who=me", "X-Forwarded-For": "192.0.2.7", "Julia-Version": "1.11"}
    async with bucket_of(target, tmp_path) as bucket:
        for key in ("a%20b", "a+b", "a%2Fb", "%C3%A9", "~'()*!"):
            await bucket.get(f"{key}?secret=1", **secrets)
        assert {seen.path for seen in bucket.origin.seen} == {
            f"/{key}" for key in ("a%20b", "a+b", "a%2Fb", "%C3%A9", "~'()*!")
        }
        for seen in bucket.origin.seen:
            assert {name.lower() for name in secrets} & seen.headers.keys() == set()


HOSTILE = [
    *("", "a//b", "./a", "a/..", "a/../../b", "a/%2e%2E/b", "a%2F..%2Fb", "a%2f%2fb", "%2Fa", "a%5Cb", "a\\b"),
    *("a%00", "a%0Ab", "a%0d%0aSet-Cookie:%20x=1", "a%7f", "a%zz", "a%2", "a%", "a" * 1025),
]


async def test_hostile_keys_other_buckets_and_methods_reach_no_origin(target: str, tmp_path: Path) -> None:
    async with bucket_of(target, tmp_path) as bucket:
        port = bucket.client.base_url.port or 0

        async def status(method: str, path: str) -> int:
            async with connected(port) as raw:
                await raw.ask(path, method=method)
                return (await raw.head()).status

        for key in HOSTILE:
            assert await status("GET", f"/mirror/{BUCKET}/{key}") in {400, 404}, key
        for path in ("/mirror/", f"/mirror/{BUCKET}", "/mirror/other/a", f"/mirror/x/../{BUCKET}/a"):
            assert await status("GET", path) in {400, 404}, path
        for path in (f"//mirror/{BUCKET}/a", f"/%6dirror/{BUCKET}/a", "/mirror/%6aulia-test/a"):
            assert await status("GET", path) in {400, 404}, path
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            answer = await bucket.client.request(method, "/a")
            assert (answer.status_code, sorted(answer.headers["Allow"].split(", "))) == (405, ["GET", "HEAD"])
        assert bucket.origin.seen == []

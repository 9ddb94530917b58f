"""Both mirrors before an origin that fails and lies: what it is asked, and what clients are told meanwhile."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
from tests.behaviours import Behaviour, Pieces, good
from tests.mirror.scripted import bucket_of
from tests.web.raw import connected

if TYPE_CHECKING:
    from tests.mirror.scripted import Mirrors

pytestmark = pytest.mark.integration

BODY = bytes(range(256)) * 4000


async def test_fifty_clients_are_one_fetch(mirrors: Mirrors) -> None:
    release = trio.Event()
    async with bucket_of(mirrors) as bucket:
        bucket.now = replace(good(BODY), pieces=Pieces(size=300_000, release=release))
        received = []

        async def ask() -> None:
            received.append((await bucket.get("a")).content == BODY)

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(ask)
            await bucket.asked("a")
            release.set()
        assert received == [True] * 50
        assert bucket.fetched("a") == 1


@pytest.mark.parametrize("status", [403, 404])
async def test_a_refusal_is_passed_on_and_remembered_for_a_moment(mirrors: Mirrors, status: int) -> None:
    async with bucket_of(mirrors) as bucket:
        bucket.now = Behaviour(status=status)
        assert [(await bucket.get("a")).status_code for _ in range(5)] == [status] * 5
        assert len(bucket.seen) == 1


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
async def test_what_breaks_off_looks_broken_and_is_not_kept(mirrors: Mirrors, broken: Behaviour) -> None:
    async with bucket_of(mirrors) as bucket:
        bucket.now = broken
        try:
            answer = await bucket.get("a")
        except httpx.HTTPError:
            pass
        else:
            assert answer.status_code == 502
        bucket.now = good(BODY)
        assert await bucket.recovers("a") == BODY


@pytest.mark.parametrize("mirrors", ["server"], indirect=True)  # nginx cannot compute digests: docs/protocol.md
@pytest.mark.parametrize(
    ("tag", "headers"),
    [
        (f'"{hashlib.md5(BODY, usedforsecurity=False).hexdigest()}"', {}),
        ('"of-parts-2"', {"x-amz-checksum-type": "FULL_OBJECT", "x-amz-checksum-crc64nvme": "xeH4p9V9cvs="}),
        ('"of-parts-2"', {"x-amz-checksum-crc32c": "ZApzyQ=="}),
    ],
    ids=["MD5", "CRC64NVME", "CRC32C"],
)
async def test_wrong_bytes_never_complete_an_answer_nor_are_kept(
    mirrors: Mirrors, tag: str, headers: dict[str, str]
) -> None:
    async with bucket_of(mirrors) as bucket:
        bucket.now = Behaviour(body=BODY[:-1] + b"x", etag=tag, headers=headers)
        try:
            answer = await bucket.get("a")
        except httpx.HTTPError:
            pass
        else:
            assert answer.status_code == 502
        bucket.now = Behaviour(body=BODY, etag=tag, headers=headers)
        assert await bucket.recovers("a") == BODY


async def test_an_object_that_is_overwritten_is_never_mixed(mirrors: Mirrors) -> None:
    release = trio.Event()
    other = bytes(reversed(BODY))
    async with bucket_of(mirrors, ttl_seconds=1) as bucket:
        bucket.now = replace(good(BODY), pieces=Pieces(size=300_000, release=release))
        bodies = []

        async def ask() -> None:
            bodies.append((await bucket.get("a")).content)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await bucket.asked("a")
            bucket.now = good(other)  # the running one is still sent as it was
            nursery.start_soon(ask)
            release.set()
        assert all(body in {BODY, other} for body in bodies)
        await bucket.over()
        for lines in ({}, {"Range": "bytes=0-"}):
            assert (await bucket.get("a", **lines)).content == other


async def test_a_slow_origin_is_waited_for(mirrors: Mirrors) -> None:
    async with bucket_of(mirrors) as bucket:
        bucket.now = replace(good(BODY), delay_before_head=1, pieces=Pieces(size=250_000, pause=0.3))
        assert (await bucket.told("a"))[:2] == (200, BODY)


async def test_a_client_that_leaves_takes_the_fetch_from_nobody(mirrors: Mirrors) -> None:
    release = trio.Event()
    async with bucket_of(mirrors) as bucket:
        bucket.now = replace(good(BODY), pieces=Pieces(size=300_000, release=release))
        # nginx gives up what it asked for while nothing has come yet.
        async with connected(bucket.client.base_url.port or 0) as raw:
            await raw.ask(f"/mirror/{bucket.name}/a")
            await raw.head()
            await raw.exactly(1)
        release.set()
        assert (await bucket.told("a"))[:2] == (200, BODY)
        assert bucket.fetched("a") == 1


async def test_an_origin_sees_keys_as_clients_write_them_and_nothing_else_of_them(mirrors: Mirrors) -> None:
    keys = ("a%20b", "a+b", "a%2Fb", "%C3%A9", "~'()*!")
    secrets = {"Authorization": "Bearer x", "Cookie": "who=me", "X-Forwarded-For": "192.0.2.7", "Julia-Version": "1.11"}
    async with bucket_of(mirrors) as bucket:
        for key in keys:
            await bucket.get(f"{key}?secret=1", **secrets)
        assert {seen.path for seen in bucket.seen} == {f"/{bucket.name}/{key}" for key in keys}
        for seen in bucket.seen:
            assert {name.lower() for name in secrets} & seen.headers.keys() == set()


HOSTILE = [
    *("", "a//b", "./a", "a/..", "a/../../b", "a/%2e%2E/b", "a%2F..%2Fb", "a%2f%2fb", "%2Fa", "a%5Cb", "a\\b"),
    *("a%00", "a%0Ab", "a%0d%0aSet-Cookie:%20x=1", "a%7f", "a%zz", "a%2", "a%", "a" * 1025),
]


async def test_hostile_keys_other_buckets_and_methods_reach_no_origin(mirrors: Mirrors) -> None:
    async with bucket_of(mirrors) as bucket:
        port = bucket.client.base_url.port or 0

        async def status(method: str, path: str) -> int:
            async with connected(port) as raw:
                await raw.ask(path, method=method)
                return (await raw.head()).status

        for key in HOSTILE:
            assert await status("GET", f"/mirror/{bucket.name}/{key}") in {400, 404}, key
        for path in ("/mirror/", f"/mirror/{bucket.name}", "/mirror/other/a", f"/mirror/x/../{bucket.name}/a"):
            assert await status("GET", path) in {400, 404}, path
        for path in (f"//mirror/{bucket.name}/a", f"/%6dirror/{bucket.name}/a", f"/mirror/%74{bucket.name[1:]}/a"):
            assert await status("GET", path) in {400, 404}, path
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            answer = await bucket.client.request(method, "/a")
            assert (answer.status_code, sorted(answer.headers["Allow"].split(", "))) == (405, ["GET", "HEAD"])
        assert bucket.seen == []

"""The mirror of buckets in nginx, before a scripted origin."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
from tests.behaviours import Behaviour, good
from tests.deployment.front_end.mirrored import cache_of, mirror
from tests.fakes import FakeUpstream
from tests.web.raw import connected
from tests.web.site import until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

BODY = bytes(range(256)) * 400
OLD, NEW = good(b"old"), good(b"newer")
POINTER = "bin/versions.json"


async def test_an_object_is_fetched_once_and_served_without_its_origin(tmp_path: Path) -> None:
    headers = {
        "cache-control": "max-age=60",
        "x-amz-meta-a": "b",
        "x-amz-request-id": "secret",
        "content-disposition": "c",
    }
    async with (
        FakeUpstream(script=lambda _: replace(good(BODY), headers=headers)) as origin,
        mirror(tmp_path, origin.url) as (_, client),
    ):
        assert await cache_of(client, "a%20b+c%2Fd%C3%A9?query") == (200, "MISS", BODY)
        answer = await client.get("/mirror/abc/a%20b+c%2Fd%C3%A9?other")
        assert [request.path for request in origin.seen] == ["/a%20b+c%2Fd%C3%A9"]
        told = [answer.headers.get(name) for name in ("X-Cache", "Cache-Control", *headers, "ETag")]
        assert told == ["HIT", "max-age=60", "max-age=60", "b", None, "c", good(BODY).etag]
        part = await client.get("/mirror/abc/a%20b+c%2Fd%C3%A9", headers={"Range": "bytes=-7"})
        assert (part.status_code, part.content) == (206, BODY[-7:])
        head = await client.head("/mirror/abc/a%20b+c%2Fd%C3%A9")
        assert (head.headers["X-Cache"], head.headers["ETag"], len(origin.seen)) == ("HIT", good(BODY).etag, 1)


@pytest.mark.parametrize(
    "key",
    [
        *(
            "",
            "a//b",
            "./a",
            "a/..",
            "a/%2e%2E/b",
            "a%2F..%2Fb",
            "a%2F/b",
            "%2Fa",
            "a%5Cb",
            "a\\b",
            "a%00",
            "a%0Ab",
            "a%7f",
        ),
        *("a%zz", "a%2", "a" * 1025, "a#b"),
    ],
)
async def test_a_hostile_key_reaches_no_origin(tmp_path: Path, key: str) -> None:
    async with FakeUpstream(script=lambda _: OLD) as origin, mirror(tmp_path, origin.url) as (front_end, _):
        async with connected(front_end.ports[8000]) as raw:
            await raw.ask(f"/mirror/abc/{key}")
            assert (await raw.head()).status in {400, 404}
        assert not origin.seen


async def test_others_methods_and_buckets_are_refused(tmp_path: Path) -> None:
    async with FakeUpstream(script=lambda _: OLD) as origin, mirror(tmp_path, origin.url) as (_, client):
        answer = await client.post("/mirror/abc/a")
        assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")
        assert (await client.get("/mirror/abd/a")).status_code == 404
        assert not origin.seen


async def test_nobody_keeps_an_old_pointer_fresh_by_a_condition_of_his_own(tmp_path: Path) -> None:
    now = OLD
    async with FakeUpstream(script=lambda _: now) as origin, mirror(tmp_path, origin.url) as (_, client):
        assert (await cache_of(client, POINTER))[1:] == ("MISS", b"old")
        now = NEW
        await trio.sleep(2.1)
        for lines in ({"Range": "bytes=0-"}, {"Range": "bytes=0-1"}, {}):
            await client.head(f"/mirror/abc/{POINTER}", headers={"If-None-Match": str(NEW.etag), **lines})
            if lines:
                await client.get(f"/mirror/abc/{POINTER}", headers={"If-None-Match": str(NEW.etag), **lines})
        assert (await cache_of(client, POINTER))[1:] == ("EXPIRED", b"newer")


async def test_an_object_is_stale_while_it_is_asked_about_and_while_the_origin_fails(tmp_path: Path) -> None:
    now = OLD
    async with FakeUpstream(script=lambda _: now) as origin, mirror(tmp_path, origin.url) as (_, client):
        for key in ("a", POINTER):
            await cache_of(client, key)
        await trio.sleep(2.1)
        now = Behaviour(status=503)
        assert await cache_of(client, POINTER) == (200, "STALE", b"old")
        now = NEW
        assert await cache_of(client, "a") == (200, "STALE", b"old")
        await until(lambda: origin.requests("GET", "/a") == 2)


async def test_what_breaks_off_is_broken_and_not_kept(tmp_path: Path) -> None:
    now = replace(good(BODY), close_at=1000)
    async with FakeUpstream(script=lambda _: now) as origin, mirror(tmp_path, origin.url) as (_, client):
        with pytest.raises(httpx.RemoteProtocolError):
            await cache_of(client, "a")
        now = good(BODY)
        assert await cache_of(client, "a") == (200, "MISS", BODY)


async def test_an_uncached_range_and_a_head_fetch_no_object(tmp_path: Path) -> None:
    async with FakeUpstream(script=lambda _: good(BODY)) as origin, mirror(tmp_path, origin.url) as (_, client):
        assert (await cache_of(client, "a", Range="bytes=0-99"))[::2] == (206, BODY[:100])
        assert (await client.head("/mirror/abc/a")).headers["ETag"] == good(BODY).etag
        assert [(request.method, request.headers.get("range")) for request in origin.seen] == [
            ("GET", "bytes=0-99"),
            ("HEAD", None),
        ]
        assert (await cache_of(client, "a"))[1] == "MISS"


@pytest.mark.parametrize("status", [403, 404])
async def test_a_refusal_is_passed_on_and_remembered(tmp_path: Path, status: int) -> None:
    async with (
        FakeUpstream(script=lambda _: Behaviour(status=status)) as origin,
        mirror(tmp_path, origin.url) as (_, client),
    ):
        assert [(await cache_of(client, "a"))[:2] for _ in range(2)] == [(status, "MISS"), (status, "HIT")]


async def test_zero_bytes_are_an_object_and_no_store_is_obeyed(tmp_path: Path) -> None:
    now = good(b"")
    async with FakeUpstream(script=lambda _: now) as origin, mirror(tmp_path, origin.url) as (_, client):
        assert [(await cache_of(client, "a"))[:2] for _ in range(2)] == [(200, "MISS"), (200, "HIT")]
        for header in ({"cache-control": "private"}, {"set-cookie": "a=b"}, {"cache-control": "no-store"}):
            now = replace(OLD, headers=header)
            key = "".join(header.values())
            assert [(await cache_of(client, key))[:2] for _ in range(2)] == [(200, "MISS")] * 2


async def test_a_host_of_its_own_serves_the_same_objects(tmp_path: Path) -> None:
    async with (
        FakeUpstream(script=lambda _: OLD) as origin,
        mirror(tmp_path, origin.url, S3_MIRROR_FQDN="m.example.org") as (_, client),
    ):
        assert (await cache_of(client, "a"))[1] == "MISS"
        answer = await client.get("/abc/a", headers={"Host": "m.example.org"})
        assert (answer.headers["X-Cache"], answer.content) == ("HIT", b"old")

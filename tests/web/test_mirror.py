"""Objects of buckets over HTTP: headers, conditions, ranges, refusals, and what is counted."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.fakes import MISSING, FakeUpstream, good
from tests.web.site import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.web.site import Serve, Site

BODY = b"julia" * 500
KEY = "/mirror/bucket/bin/a%20b+c%2Fd"
ORIGIN_PATH = "/prefix/bin/a%20b+c%2Fd"
ETAG = f'"{hashlib.md5(BODY, usedforsecurity=False).hexdigest()}"'
SAID = {
    "last-modified": "Sun, 06 Nov 1994 08:49:37 GMT",
    "content-type": "application/gzip",
    "content-disposition": "attachment",
    "x-amz-meta-a": "b",
    "cache-control": "max-age=60",
    "x-amz-request-id": "1",
    "set-none": "x",
}


@pytest.fixture
async def origin() -> AsyncIterator[FakeUpstream]:
    def answer(request: object) -> object:
        del request
        behaviour = good(BODY)
        return type(behaviour)(body=BODY, etag=ETAG, headers=SAID)

    async with FakeUpstream(script=answer) as upstream:  # type: ignore[arg-type]
        yield upstream


@pytest.fixture
async def site(serve: Serve, origin: FakeUpstream) -> Site:
    return await serve(PKGSERVER_MIRROR_BUCKETS=f"bucket={origin.url}/prefix")


async def test_an_object_is_told_in_its_origins_words(site: Site, origin: FakeUpstream) -> None:
    miss = await site.client.get(KEY)
    assert (miss.status_code, miss.content, miss.headers["X-Cache"]) == (200, BODY, "MISS")
    assert site.running.mirror is not None
    flights = site.running.mirror.library.downloads.flights
    await until(lambda: not flights)
    hit = await site.client.get(f"{KEY}?query=ignored")
    assert (hit.content, hit.headers["X-Cache"], hit.headers["ETag"]) == (BODY, "HIT", ETAG)
    for name in ("last-modified", "content-type", "content-disposition", "x-amz-meta-a", "cache-control"):
        assert hit.headers[name] == SAID[name]
    assert {"x-amz-request-id", "set-none"}.isdisjoint(hit.headers)
    assert [request.path for request in origin.seen] == [ORIGIN_PATH] * 2


async def test_conditions_ranges_and_head_are_answered_from_what_is_held(site: Site, origin: FakeUpstream) -> None:
    await site.client.get(KEY)
    asked = len(origin.seen)
    assert (await site.client.get(KEY, headers={"If-None-Match": ETAG})).status_code == 304
    assert (await site.client.get(KEY, headers={"If-Modified-Since": SAID["last-modified"]})).status_code == 304
    part = await site.client.get(KEY, headers={"Range": "bytes=-5", "If-Range": ETAG})
    assert (part.status_code, part.content) == (206, BODY[-5:])
    assert part.headers["Content-Range"] == f"bytes {len(BODY) - 5}-{len(BODY) - 1}/{len(BODY)}"
    whole = await site.client.get(KEY, headers={"Range": "bytes=-5", "If-Range": '"other"'})
    assert (whole.status_code, whole.content) == (200, BODY)
    assert (await site.client.get(KEY, headers={"Range": "bytes=99999-"})).status_code == 416
    head = await site.client.head(KEY)
    assert (head.headers["ETag"], head.headers["Content-Length"]) == (ETAG, str(len(BODY)))
    assert len(origin.seen) == asked


async def test_a_part_of_what_is_not_held_is_passed_through(site: Site, origin: FakeUpstream) -> None:
    part = await site.client.get(KEY, headers={"Range": "bytes=0-4"})
    assert (part.status_code, part.content, part.headers["X-Cache"]) == (206, BODY[:5], "BYPASS")
    assert part.headers["Content-Range"] == f"bytes 0-4/{len(BODY)}"
    assert [request.method for request in origin.seen] == ["GET"]


@pytest.mark.parametrize(("said", "told"), [("bytes */9", "bytes */9"), ("bytes of nothing", None)])
async def test_no_client_is_told_of_a_part_in_words_that_say_none(serve: Serve, said: str, told: str | None) -> None:
    beyond = replace(MISSING, status=416, headers={"Content-Range": said})
    async with FakeUpstream(script=lambda _: beyond) as origin:
        site = await serve(PKGSERVER_MIRROR_BUCKETS=f"bucket={origin.url}")
        answer = await site.client.get(KEY, headers={"Range": "bytes=9-"})
        assert (answer.status_code, answer.headers.get("Content-Range")) == (416, told)


@pytest.mark.parametrize("key", ["", "a//b", "%2e%2e/a", "a%00", "a%5Cb"])
async def test_hostile_keys_and_other_buckets_reach_no_origin(site: Site, origin: FakeUpstream, key: str) -> None:
    assert (await site.client.get(f"/mirror/bucket/{key}")).status_code == 400
    assert (await site.client.get("/mirror/other/a")).status_code == 404
    refused = await site.client.post(KEY)
    assert (refused.status_code, refused.headers["Allow"]) == (405, "GET, HEAD")
    assert origin.seen == []


async def test_the_mirror_is_counted_as_a_kind_of_its_own(site: Site) -> None:
    await site.client.get(KEY)
    await site.client.head(KEY)
    assert site.running.mirror is not None
    flights = site.running.mirror.library.downloads.flights
    await until(lambda: not flights)
    told = (await site.client.get("/metrics")).text
    assert 'pkgserver_requests_total{outcome="miss",resource_type="mirror"} 1.0' in told
    assert 'pkgserver_head_requests_total{resource_type="mirror"} 1.0' in told
    assert f'pkgserver_cached_resource_bytes{{resource_type="mirror"}} {float(len(BODY))}' in told
    assert 'pkgserver_http_request_duration_seconds_count{target="/mirror"} 2.0' in told


async def test_an_operator_can_remove_an_object(serve: Serve, origin: FakeUpstream) -> None:
    digest = hashlib.sha256(b"password").hexdigest()
    buckets = f"bucket={origin.url}"
    site = await serve(PKGSERVER_MIRROR_BUCKETS=buckets, JULIA_PKG_SERVER_ADMIN_TOKEN_SHA256=digest)
    assert site.running.mirror is not None
    flights = site.running.mirror.library.downloads.flights
    removal = f"/admin/cache{KEY}"
    assert (await site.client.delete(removal, auth=("admin", "password"))).status_code == 404
    await site.client.get(KEY)
    await until(lambda: not flights)
    assert (await site.client.delete(removal, auth=("admin", "password"))).status_code == 204
    assert (await site.client.get(KEY)).headers["X-Cache"] == "MISS"
    await until(lambda: not flights)


async def test_without_buckets_there_is_no_mirror(serve: Serve) -> None:
    site = await serve()
    assert (await site.client.get(KEY)).status_code == 404
    assert site.running.mirror is None
    assert not (site.root / "mirror").exists()

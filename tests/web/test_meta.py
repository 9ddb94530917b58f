"""`/meta` and what is below it, as monitors of PkgServer.jl read it."""

from __future__ import annotations

import re
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import trio
from tests.web.site import halved, until

from pkgserver_trio import __version__
from pkgserver_trio.resource import Kind, Resource
from pkgserver_trio.storage.disk import FileStat

if TYPE_CHECKING:
    from tests.web.site import Serve, Site

    from pkgserver_trio.demo.sample import Sample


STAT = FileStat(size_bytes=10, mtime_ns=0, atime_ns=0, device=1, inode=2)


async def ask(site: Site, path: str) -> Any:  # noqa: ANN401 # JSON
    answer = await site.client.get(path)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    return answer.json()


async def test_meta_has_what_monitors_read(ready: Site) -> None:
    meta = await ask(ready, "/meta")
    for key in ("start_time", "last_registry_update"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}", meta[key])
        assert abs(datetime.fromisoformat(meta[key]).replace(tzinfo=UTC).timestamp() - time.time()) < 60
    assert 10_000_000 < meta.pop("maxrss") < 10**12
    assert int(meta.pop("live_tasks")) > 0
    assert tuple(map(int, meta.pop("julia_version").split("."))) >= (1, 3)
    del meta["start_time"], meta["last_registry_update"]
    assert meta == {
        "pkgserver_version": __version__,
        "pkgserver_url": "https://pkg.invalid",
        "registry_update_task": "started",
        "registry_watchdog_task": "started",
    }


async def test_before_a_registry_was_ever_updated_that_time_is_the_start(serve: Serve) -> None:
    meta = await ask(await serve(), "/meta")
    assert meta["last_registry_update"] == meta["start_time"]


async def test_siblings_are_the_official_servers_when_the_operator_names_none(serve: Serve) -> None:
    most = ("us-west", "us-east", "sa", "eu-central", "in", "jp", "kr", "sg")
    regions = (*most, "cn-southeast", "cn-east", "cn-northeast", "au")
    assert await ask(await serve(), "/meta/siblings") == [f"https://{region}.pkg.julialang.org" for region in regions]


async def test_siblings_and_parents_are_told_without_credentials(serve: Serve) -> None:
    site = await serve(
        PKGSERVER_SIBLINGS="https://a.invalid,https://u:secret@b.invalid",
        JULIA_PKG_SERVER_STORAGE_SERVERS="http://u:secret@127.0.0.1:9,http://v:secret@127.0.0.1:9",
    )
    assert await ask(site, "/meta/siblings") == ["https://a.invalid", "https://***@b.invalid"]
    assert await ask(site, "/meta/parents") == ["http://***@127.0.0.1:9"]
    assert await ask(site, "/meta/children") == []


async def test_hits_and_misses_are_counted_with_their_bytes(ready: Site, sample: Sample) -> None:
    path, size = sample.artifact.path, len(sample.files[sample.artifact.path])
    before = await ask(ready, "/meta/stats")
    await ready.warm(path)
    await ready.client.get(path, headers={"Range": "bytes=0-9"})
    await ready.client.head(path)
    assert (await ready.client.get(f"/artifact/{'0' * 40}")).status_code == 404
    after = await ask(ready, "/meta/stats")
    assert {key: after[key] - before[key] for key in before if key != "lru"} == {
        "packages_cached": 0,
        "artifacts_cached": 1,
        "total_hits": 3,
        "cached_hits": 2,
        "fetch_hits": 1,
        "total_misses": 1,
        "payload_bytes_received": size,
        "payload_bytes_transmitted": 2 * size + 10,
    }


async def test_accesses_of_each_resource_are_counted_and_dated(ready: Site, sample: Sample) -> None:
    path = sample.artifact.path
    await ready.warm(path)
    first = (await ask(ready, "/meta/stats"))["lru"]
    assert next(iter(first)) == path[1:]
    assert first[path[1:]]["size"] == len(sample.files[path])
    assert first[path[1:]]["num_accessed"] == 2
    assert abs(first[path[1:]]["last_accessed"] - time.time()) < 60
    for _ in range(5):
        await ready.client.get(path)
    await ready.client.head(path)
    second = (await ask(ready, "/meta/stats"))["lru"]
    assert second[path[1:]]["num_accessed"] == 7
    assert second[path[1:]]["last_accessed"] > first[path[1:]]["last_accessed"]


async def test_who_joins_a_download_is_a_fetch_hit_too(serve: Serve, sample: Sample) -> None:
    path, release = sample.artifact.path, trio.Event()
    site = await serve(files=sample.files, script={("GET", path): halved(sample.files[path], release)})
    async with AsyncExitStack() as stack:
        for _ in range(3):
            answer = await stack.enter_async_context(site.client.stream("GET", path))
            stack.push_async_callback(answer.aread)
        release.set()
    await site.settle()
    stats = await ask(site, "/meta/stats")
    assert (stats["fetch_hits"], stats["cached_hits"]) == (3, 0)
    assert stats["lru"][path[1:]]["num_accessed"] == 3


async def test_the_list_is_as_long_as_is_asked_for(ready: Site, sample: Sample) -> None:
    await ready.warm(sample.artifact.path)
    assert list((await ask(ready, "/meta/stats?limit=1"))["lru"]) == [sample.artifact.path[1:]]
    assert len((await ask(ready, "/meta/stats?limit=999999999"))["lru"]) == 2
    assert (await ask(ready, "/meta/stats?limit=0"))["lru"] == {}


@pytest.mark.parametrize(("query", "listed"), [("", 1000), ("?limit=1500", 1500), ("?limit=3000", 2000)])
async def test_of_a_large_cache_the_list_has_what_was_used_last(site: Site, query: str, listed: int) -> None:
    for number in range(2100):
        resource = Resource(Kind.ARTIFACT, f"{number:040x}")
        site.library.store.index.add(resource.pack(), STAT, used_ns=number)
    names = (await ask(site, f"/meta/stats{query}"))["lru"]
    assert list(names) == [f"artifact/{number:040x}" for number in range(2099, 2099 - listed, -1)]


async def test_what_an_earlier_start_used_is_listed_with_its_time(serve: Serve, sample: Sample) -> None:
    site = await serve(files=sample.files)
    await site.warm(sample.artifact.path)
    await site.stop()
    again = await serve(files=sample.files)
    await until(lambda: again.library.store.index.held(Kind.ARTIFACT)[0])
    entry = (await ask(again, "/meta/stats"))["lru"][sample.artifact.path[1:]]
    assert entry["num_accessed"] == 0
    assert abs(entry["last_accessed"] - time.time()) < 60


@pytest.mark.parametrize("limit", ["-1", "x", "", "1" * 10, "%D9%A3", "%1B"])
async def test_a_limit_that_is_no_number_is_refused_with_a_reason(site: Site, limit: str) -> None:
    answer = await site.client.get(f"/meta/stats?limit={limit}")
    assert answer.status_code == 400
    assert answer.text.startswith("limit is not a whole number")
    assert answer.text.isascii()
    assert answer.text.strip().isprintable()


async def test_nothing_else_is_below_meta(site: Site) -> None:
    for path in ("/meta/", "/meta/x", "/meta/stats/"):
        assert (await site.client.get(path)).status_code == 404
    assert (await site.client.post("/meta")).status_code == 405
    head = await site.client.head("/meta/parents")
    assert (head.status_code, head.content) == (200, b"")

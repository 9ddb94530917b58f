"""The hits that a real nginx served: each is counted once, and keeps its file from eviction."""

from __future__ import annotations

import signal
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
from tests.hits import Counted, counting
from tests.integration.nginx import running_nginx
from tests.web.site import start_site, until

from pkgserver_trio.demo.sample import build_sample
from pkgserver_trio.hits.file import HitFile
from pkgserver_trio.hits.tail import follow_hit_logs
from pkgserver_trio.resource import Resource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.integration.nginx import Nginx
    from tests.web.site import Site

pytestmark = pytest.mark.integration

SAMPLE = build_sample()
ARTIFACT, PACKAGE, OTHER = SAMPLE.artifact.path, SAMPLE.packages[0].path, SAMPLE.packages[1].path
SIZE = len(SAMPLE.files[ARTIFACT])
ABSENT = f"/artifact/{'0' * 40}"


@pytest.fixture
async def site(nursery: trio.Nursery, tmp_path: Path) -> AsyncIterator[Site]:
    """Give a server that listens to the log of an nginx that is started later."""
    root, log = tmp_path / "store", tmp_path / "nginx" / "hits.log"
    site = await start_site(nursery, root, SAMPLE.files, {}, {"PKGSERVER_HIT_LOGS": str(log)})
    for path in (ARTIFACT, PACKAGE, OTHER):
        await site.warm(path)
    yield site
    await site.stop()


@asynccontextmanager
async def nginx_before(site: Site, *, buffer: str = "64k") -> AsyncIterator[tuple[Nginx, httpx.AsyncClient]]:
    """Run nginx before the site; yield it and a client of it."""
    with running_nginx(site.root.parent / "nginx", site.root, site.running.url, buffer=buffer) as nginx:
        await until(nginx.socket.exists)
        transport = httpx.AsyncHTTPTransport(uds=str(nginx.socket))
        async with httpx.AsyncClient(transport=transport, base_url="http://nginx.invalid") as client:
            yield nginx, client


async def test_what_nginx_served_is_counted_once_and_nothing_else(site: Site) -> None:
    counted = counting(site)
    async with nginx_before(site) as (_, client):
        whole = await client.get(ARTIFACT)
        assert (whole.content, whole.headers["ETag"]) == (
            SAMPLE.files[ARTIFACT],
            (await site.warm(ARTIFACT)).headers["ETag"],
        )
        assert (await client.get(ARTIFACT, headers={"Range": "bytes=0-9"})).status_code == 206
        assert (await client.get(ARTIFACT, headers={"If-None-Match": whole.headers["ETag"]})).status_code == 304
        for passed_over in (
            await client.head(ARTIFACT),
            await client.get(ARTIFACT, headers={"Range": f"bytes={SIZE}-"}),
            await client.get(ABSENT),
            await client.get(f"{ARTIFACT}%0A1700000000.000 200 999 GET {PACKAGE}"),
        ):
            assert passed_over.status_code in {200, 404, 416}
        assert (await client.get(SAMPLE.registry.path)).content == SAMPLE.files[SAMPLE.registry.path]
        assert (await client.get(PACKAGE)).status_code == 200
        await until(lambda: (PACKAGE, len(SAMPLE.files[PACKAGE])) in counted)
    wanted = [(ARTIFACT, 0), (ARTIFACT, 10), (ARTIFACT, SIZE), (PACKAGE, len(SAMPLE.files[PACKAGE]))]
    assert sorted(hit for hit in counted if hit[0] != SAMPLE.registry.path) == sorted(wanted)


async def test_what_nginx_served_last_is_evicted_last(site: Site) -> None:
    def order() -> list[str]:
        keys = site.library.store.index.oldest_worth(2**60)
        return [path for path in (Resource.unpack(key).path for key in keys) if path in {ARTIFACT, PACKAGE, OTHER}]

    assert order() == [ARTIFACT, PACKAGE, OTHER]
    async with nginx_before(site) as (_, client):
        await client.get(PACKAGE)
        await until(lambda: order() == [ARTIFACT, OTHER, PACKAGE])
        await client.get(ARTIFACT)
        await until(lambda: order() == [OTHER, PACKAGE, ARTIFACT])


async def test_nothing_is_lost_while_nginx_writes_into_a_log_that_is_cut_and_renamed(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, served, cuts = Counted(), 0, 0
    cut = HitFile.cut

    def counting_cut(file: HitFile, path: Path) -> bool:
        nonlocal cuts
        done = cut(file, path)
        cuts += done
        return done

    async def ask_until_cut(times: int) -> None:
        nonlocal served
        while cuts < times:
            assert (await client.get(PACKAGE)).status_code == 200
            served += 1

    monkeypatch.setattr(HitFile, "cut", counting_cut)
    async with nginx_before(site, buffer="1k") as (nginx, client), trio.open_nursery() as nursery:
        follow = partial(follow_hit_logs, [nginx.log], counted.on_hits, bookmarks=tmp_path / "at", cut_at_bytes=1000)
        nursery.start_soon(follow)
        for times in (1, 2):
            async with trio.open_nursery() as clients:
                for _ in range(4):
                    clients.start_soon(ask_until_cut, times)
            nginx.log.rename(tmp_path / "renamed")
            nginx.process.send_signal(signal.SIGUSR1)
        await until(lambda: len(counted) >= served)
        assert counted == [(PACKAGE, len(SAMPLE.files[PACKAGE]))] * served
        nursery.cancel_scope.cancel()

"""After the stop signal: who is connected is answered once more, and told that it is the last time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.web.raw import connected
from tests.web.site import PATIENCE_SECONDS, until

from pkgserver_trio.storage.lock_sign import LOCK_NAME, is_draining

if TYPE_CHECKING:
    from tests.web.raw import RawClient
    from tests.web.site import Serve, Site

    from pkgserver_trio.demo.sample import Sample

AMPLE = str(PATIENCE_SECONDS)


async def begin(site: Site, raw: RawClient, path: str, method: str = "GET") -> bytes:
    """Send the most of a request, and return the rest of it once the server has begun to wait for that."""
    request = f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    await raw.stream.send_all(request[:-1])
    await until(lambda: any(connection._receiving for connection in site.running.server.connections))
    return request[-1:]


async def stop(site: Site) -> None:
    site.running.stopping.set()
    await until(site.running.server.context.terminated.is_set)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_hit_is_served_and_is_the_last_on_its_connection(serve: Serve, sample: Sample, method: str) -> None:
    path, body = sample.artifact.path, sample.files[sample.artifact.path]
    site = await serve(files=sample.files, PKGSERVER_GRACEFUL_SECONDS=AMPLE)
    await site.warm(path)
    async with connected(site.port) as raw:
        rest = await begin(site, raw, path, method)
        await stop(site)
        await raw.stream.send_all(rest)
        head = await raw.head()
        assert (head.status, head.headers["connection"]) == (200, "close")
        assert await raw.rest() == (body if method == "GET" else b"")
    await site.stop()


async def test_a_page_is_served_and_a_refusal_too(serve: Serve) -> None:
    site = await serve(PKGSERVER_GRACEFUL_SECONDS=AMPLE)
    async with connected(site.port) as page, connected(site.port) as nowhere:
        rest = await begin(site, page, "/healthz")
        await nowhere.stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r")
        await until(lambda: all(one._receiving for one in site.running.server.connections))
        await stop(site)
        await page.stream.send_all(rest)
        await nowhere.stream.send_all(b"\n")
        assert (await page.head()).headers["connection"] == "close"
        assert (await nowhere.head()).status == 413
    await site.stop()


async def test_before_the_stop_connections_are_kept(site: Site) -> None:
    async with connected(site.port) as raw:
        await raw.ask("/healthz")
        assert "connection" not in (await raw.head()).headers


async def test_a_request_that_does_not_become_whole_holds_no_stop(serve: Serve) -> None:
    site = await serve(PKGSERVER_GRACEFUL_SECONDS="0.2", PKGSERVER_REQUEST_HEAD_SECONDS="600")
    async with connected(site.port) as raw:
        await begin(site, raw, "/")
        await site.stop()
        assert await raw.rest() == b""


async def test_health_check_can_tell_that_it_drains(serve: Serve, sample: Sample) -> None:
    site = await serve(files=sample.files, PKGSERVER_GRACEFUL_SECONDS=AMPLE)
    lock = site.root / LOCK_NAME
    async with connected(site.port) as raw:
        rest = await begin(site, raw, "/healthz")
        assert not is_draining(lock)
        await stop(site)
        assert is_draining(lock)
        await raw.stream.send_all(rest)
        assert (await raw.head()).status == 200
    await site.stop()
    assert not is_draining(lock)

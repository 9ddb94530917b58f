"""`/notify`: who may tell of hits, and of which."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.hits import counting
from tests.web.raw import connected

from pkgserver_trio.resource import Resource

if TYPE_CHECKING:
    from tests.web.site import Serve, Site

    from pkgserver_trio.demo.sample import Sample

NOTIFY = "/notify"
HASH = "0123456789abcdef0123456789abcdef01234567"


async def test_a_trusted_peer_tells_of_a_hit(site: Site, sample: Sample) -> None:
    path = sample.artifact.path
    await site.warm(path)
    await site.warm(sample.packages[0].path)
    counted = counting(site)
    answer = await site.client.get(NOTIFY, headers={"X-Original-URI": path})
    assert (answer.status_code, answer.content) == (204, b"")
    assert "Transfer-Encoding" not in answer.headers
    assert counted == [(path, len(sample.files[path]))]
    newest = site.library.store.index.oldest_worth(2**60)[-1]
    assert Resource.unpack(newest).path == path
    answer = await site.client.get(NOTIFY, headers={"X-Original-URI": f"{path}?a=b"})
    assert (answer.status_code, len(counted)) == (204, 2)


@pytest.mark.parametrize(
    "forged", [{}, {"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"}, {"X-Real-IP": "127.0.0.1"}]
)
@pytest.mark.parametrize("trusted", ["none", "10.0.0.0/8,::1/128"])
async def test_a_stranger_tells_of_nothing(serve: Serve, sample: Sample, trusted: str, forged: dict[str, str]) -> None:
    site = await serve(files=sample.files, PKGSERVER_TRUSTED_PROXIES=trusted)
    path = sample.artifact.path
    await site.warm(path)
    counted = counting(site)
    site.library.store.index.take_used()
    answer = await site.client.get(NOTIFY, headers={"X-Original-URI": path, **forged})
    assert (answer.status_code, answer.text) == (404, "not found\n")
    assert (counted, site.library.store.index.take_used()) == ([], {})


async def test_x_original_uri_means_nothing_elsewhere(site: Site, sample: Sample) -> None:
    path = sample.artifact.path
    await site.warm(path)
    counted = counting(site)
    for elsewhere in ("/notify/", "/notify%20", "//notify", "/healthz", path):
        await site.client.get(elsewhere, headers={"X-Original-URI": path})
    assert counted == []


@pytest.mark.parametrize(
    "told",
    [
        *("", "/", "/registries", f"/artifact/{HASH}", f"/artifact/{HASH}/name", "http://pkg.invalid{path}"),
        *("{path}/", "/{path}", "{path}%20", "{path}#", "%2F{path}", "{path}, {path}"),
    ],
)
async def test_what_is_not_in_the_cache_is_no_hit(site: Site, sample: Sample, told: str) -> None:
    path = sample.artifact.path
    await site.warm(path)
    counted = counting(site)
    async with connected(site.port) as client:
        await client.ask(NOTIFY, f"X-Original-URI: {told.format(path=path)}")
        assert (await client.head()).status == 404
    answer = await site.client.get(NOTIFY)
    assert (answer.status_code, counted) == (404, [])


async def test_two_headers_are_no_hit(site: Site, sample: Sample) -> None:
    path = sample.artifact.path
    await site.warm(path)
    counted = counting(site)
    async with connected(site.port) as client:
        await client.ask(NOTIFY, f"X-Original-URI: {path}", f"X-Original-URI: {path}")
        assert (await client.head()).status == 404
    assert counted == []


@pytest.mark.parametrize("method", ["HEAD", "POST", "DELETE", "PUT"])
@pytest.mark.parametrize("trusted", ["none", "127.0.0.0/8"])
async def test_get_is_the_only_method(serve: Serve, sample: Sample, method: str, trusted: str) -> None:
    site = await serve(files=sample.files, PKGSERVER_TRUSTED_PROXIES=trusted)
    await site.warm(sample.artifact.path)
    counted = counting(site)
    answer = await site.client.request(method, NOTIFY, headers={"X-Original-URI": sample.artifact.path})
    assert (answer.status_code, answer.headers["Allow"], counted) == (405, "GET", [])

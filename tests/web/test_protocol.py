"""Resources, their headers, the paths that are none, and what is said when a resource cannot be served."""

from __future__ import annotations

import hashlib
import os
import tomllib
from typing import TYPE_CHECKING

import pytest
from tests.fakes import Behaviour, refusing_url
from tests.web.raw import connected
from tests.web.site import PUBLIC_URL

from pkgserver_trio.validators import entity_tag, http_date

if TYPE_CHECKING:
    import httpx
    from tests.fakes import FakeUpstream
    from tests.web.site import Serve, Site

    from pkgserver_trio.demo.sample import Sample

HASH = "0123456789abcdef0123456789abcdef01234567"
UUID = "23338594-aafe-5451-b93e-139f81909106"
ABSENT = f"/package/{UUID}/{HASH}"


def paths_of(sample: Sample) -> dict[str, str]:
    return {"registry": sample.registry.path, "package": sample.packages[0].path, "artifact": sample.artifact.path}


def asked(upstream: FakeUpstream, path: str) -> tuple[int, int]:
    """How many HEAD and GET requests of `path` the upstream has seen."""
    return upstream.requests("HEAD", path), upstream.requests("GET", path)


@pytest.mark.parametrize("kind", ["registry", "package", "artifact"])
async def test_a_resource_is_a_miss_once_and_a_hit_from_then_on(serve: Serve, sample: Sample, kind: str) -> None:
    path = paths_of(sample)[kind]
    files = {path: sample.files[path]}
    site = await serve(files=files)
    miss = await site.client.get(path)
    hit = await site.warm(path)
    assert miss.content == hit.content == files[path]
    assert miss.headers.pop("X-Cache-Miss") == "miss"
    for answer in (miss, hit):
        del answer.headers["Date"], answer.headers["X-Request-ID"]
    assert miss.headers == hit.headers
    assert asked(site.upstream, path) == (1, 1)


async def test_a_resource_says_what_it_is_and_that_it_never_changes(site: Site, sample: Sample) -> None:
    path = sample.artifact.path
    await site.warm(path)
    mtime, size = int((site.root / "cache" / path[1:]).stat().st_mtime), len(sample.files[path])
    expected = {
        "content-type": "application/x-gzip",
        "content-length": str(size),
        "accept-ranges": "bytes",
        "etag": f'"{mtime:x}-{size:x}"',
        "last-modified": http_date(mtime),
        "cache-control": "public, max-age=31536000, immutable",
    }
    for method in ("GET", "HEAD"):
        headers = dict((await site.client.request(method, path)).headers)
        del headers["date"], headers["x-request-id"]
        assert headers == expected


async def test_head_of_a_hit_has_no_body(site: Site, sample: Sample) -> None:
    await site.warm(sample.artifact.path)
    async with connected(site.port) as raw:
        await raw.ask(sample.artifact.path, "Connection: close", method="HEAD")
        assert (await raw.head()).headers["content-length"] == str(len(sample.files[sample.artifact.path]))
        assert await raw.rest() == b""


async def test_head_of_an_uncached_resource_asks_upstream_and_downloads_nothing(site: Site, sample: Sample) -> None:
    path = sample.artifact.path
    head = await site.client.head(path)
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(sample.files[path])))
    assert head.headers["X-Cache-Miss"] == "miss"
    assert asked(site.upstream, path) == (1, 0)
    await site.settle()
    assert path not in site.cached


async def test_head_of_an_uncached_resource_of_unknown_size_claims_none(serve: Serve, sample: Sample) -> None:
    path = sample.artifact.path
    site = await serve(script={("HEAD", path): Behaviour(declared_length=None)})
    async with connected(site.port) as raw:
        await raw.ask(path, "Connection: close", method="HEAD")
        head = await raw.head()
        assert head.status == 200
        assert "content-length" not in head.headers
        assert await raw.rest() == b""


async def test_head_of_what_is_nowhere_is_404(site: Site) -> None:
    assert (await site.client.head(ABSENT)).status_code == 404
    assert asked(site.upstream, ABSENT) == (1, 0)


async def test_a_cached_file_that_nginx_would_serve_has_the_same_tag(site: Site, sample: Sample) -> None:
    path = sample.packages[0].path
    await site.warm(path)
    os.utime(site.root / "cache" / path[1:], (1, 1_700_000_000))
    tag = entity_tag(1_700_000_000, len(sample.files[path]))
    assert (await site.client.get(path)).headers["ETag"] == tag


@pytest.mark.parametrize("name", ["picture", "a.b+c-d_E9", "x" * 128])
async def test_an_artifact_is_described_in_toml(site: Site, sample: Sample, name: str) -> None:
    artifact = sample.artifact
    for _ in range(2):  # from the flight, then from the store
        answer = await site.client.get(f"{artifact.path}/{name}")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "application/toml"
        assert answer.headers["Content-Disposition"] == "attachment; filename=Artifacts.toml"
        entry = tomllib.loads(answer.text)[name]
        assert entry["git-tree-sha1"] == artifact.tree_hash
        sha256 = hashlib.sha256(sample.files[artifact.path]).hexdigest()
        assert entry["download"] == [{"url": PUBLIC_URL + artifact.path, "sha256": sha256}]
        await site.settle()
    assert asked(site.upstream, artifact.path) == (1, 1)


@pytest.mark.parametrize("name", ["", "x" * 129, "a/b", "a%20b", "a~"])
async def test_an_artifact_has_no_description_under_a_wrong_name(site: Site, sample: Sample, name: str) -> None:
    assert (await site.client.get(f"{sample.artifact.path}/{name}")).status_code == 404


async def test_the_description_of_an_absent_artifact_is_404(site: Site) -> None:
    assert (await site.client.get(f"/artifact/{HASH}/name")).status_code == 404


def wrong_paths(right: str) -> list[str]:
    return [
        f"/%{ord(right[1]):x}{right[2:]}",  # percent-encoded
        f"/{right}",
        f"{right}/",
        f"{right}%0a",
        right.replace("/package/", "/package//"),
        right.replace("/package/", "/./package/"),
        right.replace("/package/", "/x/../package/"),
        right.upper().replace("/PACKAGE/", "/package/"),
        right[:-1],
        f"{right}0",
        right.replace("/package/", "/packages/"),
        right.replace("/package/", "/registry/x"),
        f"{right}/name",
    ]


@pytest.mark.parametrize("number", range(13))
async def test_a_path_that_is_not_exactly_a_route_is_404(site: Site, sample: Sample, number: int) -> None:
    right = sample.packages[0].path
    await site.warm(right)
    wrong = wrong_paths(right)[number]
    async with connected(site.port) as raw:
        await raw.ask(wrong, "Connection: close")
        head = await raw.head()
        assert head.status == 404
        assert "location" not in head.headers
        assert await raw.rest() == b"not found\n"
    assert asked(site.upstream, wrong) == (0, 0)


@pytest.mark.parametrize(
    "path", ["/robots.txt/", "/Robots.txt", "/static/x", "/healthz/", "/readyz%20", "*", "/..", "//"]
)
async def test_other_paths_are_404(site: Site, path: str) -> None:
    async with connected(site.port) as raw:
        await raw.ask(path)
        assert (await raw.head()).status == 404


async def test_a_query_is_ignored(site: Site, sample: Sample) -> None:
    path = sample.packages[0].path
    assert (await site.client.get(f"{path}?a=%2F&b")).content == sample.files[path]
    assert (await site.client.get("/robots.txt?")).status_code == 200


ROUTES = ["/", "/robots.txt", "/healthz", "/readyz", "/registries", "/registries.eager", ABSENT, f"/artifact/{HASH}/x"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
async def test_every_route_refuses_other_methods_and_says_which_it_takes(site: Site, method: str) -> None:
    for path in ROUTES:
        answer = await site.client.request(method, path)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")


async def test_another_method_on_no_route_is_404(site: Site) -> None:
    assert (await site.client.post("/nowhere")).status_code == 404


def assert_try_later(answer: httpx.Response) -> None:
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.text.endswith("\n")
    assert answer.text.count("\n") == 1


async def test_what_no_storage_server_has_is_404_and_is_not_asked_for_again_at_once(site: Site) -> None:
    for _ in range(3):
        answer = await site.client.get(ABSENT)
        assert answer.status_code == 404
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.text.count("\n") == 1
    assert asked(site.upstream, ABSENT) == (1, 0)


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_three_statuses_mean_not_there(serve: Serve, status: int) -> None:
    site = await serve(script={("HEAD", ABSENT): Behaviour(status=status)})
    assert (await site.client.get(ABSENT)).status_code == 404


async def test_a_failing_storage_server_is_502(serve: Serve) -> None:
    site = await serve(script={("HEAD", ABSENT): Behaviour(status=500)})
    answer = await site.client.get(ABSENT)
    assert (await site.client.head(ABSENT)).status_code == answer.status_code == 502
    assert_try_later(answer)
    assert "500" in answer.text


async def test_a_refusing_storage_server_is_502(serve: Serve) -> None:
    with refusing_url() as url:
        site = await serve(JULIA_PKG_SERVER_STORAGE_SERVERS=url)
        answer = await site.client.get(ABSENT)
    assert answer.status_code == 502
    assert_try_later(answer)


async def test_a_silent_storage_server_is_504(serve: Serve) -> None:
    silent = Behaviour(never_answer=True)
    site = await serve(script={("HEAD", ABSENT): silent}, PKGSERVER_CONNECT_SECONDS="0.1", PKGSERVER_HEAD_SECONDS="0.1")
    answer = await site.client.get(ABSENT)
    assert answer.status_code == 504
    assert_try_later(answer)


async def test_a_failed_resource_is_asked_for_again_after_a_short_pause(serve: Serve, sample: Sample) -> None:
    path = sample.packages[0].path
    site = await serve(files=sample.files, script={("HEAD", path): [Behaviour(status=500), Behaviour()]})
    assert (await site.client.get(path)).status_code == 502
    assert (await site.client.get(path)).status_code == 502
    assert site.upstream.requests("HEAD", path) == 1
    assert (await site.get_after_pause(path)).content == sample.files[path]

"""The lists of registries, and the small pages."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from tests.fakes import Behaviour, refusing_url
from tests.web.site import PUBLIC_URL, until

if TYPE_CHECKING:
    from tests.web.site import Serve, Site

    from pkgserver_trio.demo.sample import Sample

CI = "APPVEYOR=n;CI=t;GITHUB_ACTIONS=f"
OTHER_UUID = "00000000-0000-0000-0000-00000000000f"


@pytest.mark.parametrize(
    ("headers", "flavor"),
    [
        ({}, "conservative"),
        ({"Julia-Registry-Preference": "eager"}, "eager"),
        ({"Julia-Registry-Preference": "conservative", "Julia-CI-Variables": CI}, "conservative"),
        ({"Julia-Registry-Preference": "fancy, eager, conservative"}, "eager"),
        ({"Julia-Registry-Preference": "fancy"}, "conservative"),
        ({"Julia-Registry-Preference": "../eager"}, "conservative"),
        ({"Julia-CI-Variables": CI}, "eager"),
        ({"Julia-CI-Variables": "APPVEYOR=n;CI=f;TRAVIS=o"}, "conservative"),
        ({"Julia-Registry-Preference": "fancy", "Julia-CI-Variables": CI}, "eager"),
    ],
)
async def test_each_client_is_sent_to_its_flavor(ready: Site, headers: dict[str, str], flavor: str) -> None:
    for method in ("GET", "HEAD"):
        answer = await ready.client.request(method, "/registries?x", headers=headers)
        assert answer.status_code == 302
        assert answer.headers["Location"] == f"/registries.{flavor}"
        assert answer.headers["Vary"] == "Julia-Registry-Preference, Julia-CI-Variables"
        assert answer.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("flavor", ["eager", "conservative"])
async def test_a_flavor_lists_its_registries(ready: Site, sample: Sample, flavor: str) -> None:
    answer = await ready.client.get(f"/registries.{flavor}")
    assert answer.status_code == 200
    assert answer.text == f"{sample.registry.path}\n"
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["ETag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
    head = await ready.client.head(f"/registries.{flavor}")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(answer.content))


async def test_a_list_that_the_client_has_is_304(ready: Site) -> None:
    etag = (await ready.client.get("/registries.eager")).headers["ETag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = await ready.client.get("/registries.eager", headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", etag)
    answer = await ready.client.get("/registries.eager", headers={"If-None-Match": '"other"'})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "name", ["registries.fancy", "registries.", "registries.eager/", "registries.EAGER", "registry"]
)
async def test_an_unknown_flavor_is_404(ready: Site, name: str) -> None:
    assert (await ready.client.get(f"/{name}")).status_code == 404


async def test_a_list_is_sorted_by_uuid(serve: Serve, sample: Sample) -> None:
    other = f"/registry/{OTHER_UUID}/{sample.registry.tree_hash}"
    listing = f"{sample.registry.path}\n{other}\n".encode()
    files = {
        **sample.files,
        other: sample.files[sample.registry.path],
        "/registries.eager": listing,
        "/registries.conservative": listing,
    }
    site = await serve(files=files, PKGSERVER_REGISTRIES="*")
    wanted = f"{other}\n{sample.registry.path}\n".encode()
    await until(lambda: site.running.registries.flavors["eager"].listing == wanted)
    assert (await site.client.get("/registries.eager")).content == wanted


@pytest.mark.parametrize("path", ["/registries", "/registries.eager", "/registries.conservative"])
async def test_before_a_registry_is_known_clients_are_asked_to_come_back(serve: Serve, path: str) -> None:
    site = await serve()
    answer = await site.client.get(path)
    assert answer.status_code == 503
    assert answer.headers["Cache-Control"] == "no-store"
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.text == "no registry is known yet\n"


async def test_a_flavorless_server_lists_directly(serve: Serve, sample: Sample) -> None:
    site = await serve(files=sample.files, ready=True, JULIA_PKG_SERVER_FLAVORLESS="true")
    answer = await site.client.get("/registries", headers={"Julia-Registry-Preference": "eager"})
    assert (answer.status_code, answer.text) == (200, f"{sample.registry.path}\n")
    again = await site.client.get("/registries", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304
    assert (await site.client.get("/registries.eager")).status_code == 404


async def test_what_is_listed_is_in_the_store_already(ready: Site, sample: Sample) -> None:
    answer = await ready.client.get(sample.registry.path)
    assert "X-Cache-Miss" not in answer.headers
    assert answer.content == sample.files[sample.registry.path]
    assert ready.upstream.requests("GET", sample.registry.path) == 1


async def test_a_flavor_is_never_replaced_by_another_that_may_be_newer(serve: Serve, sample: Sample) -> None:
    files = {path: body for path, body in sample.files.items() if path != "/registries.conservative"}
    site = await serve(files=files)
    await until(lambda: site.running.registries.flavors["eager"].listing)
    assert (await site.client.get("/registries")).status_code == 503
    assert (await site.client.get("/registries", headers={"Julia-CI-Variables": CI})).status_code == 302
    ready = await site.client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")


async def test_a_new_head_is_listed_once_it_can_be_served(serve: Serve, sample: Sample) -> None:
    listings = {f"/registries{flavor}": sample.files["/registries"] for flavor in (".eager", ".conservative")}
    site = await serve(files=listings, PKGSERVER_NEGATIVE_SECONDS="0.1")
    await site.upstream.wait_for("HEAD", sample.registry.path)  # it is listed upstream, and not to be had
    assert (await site.client.get("/registries.eager")).status_code == 503
    site.upstream.files = sample.files
    await site.when_ready()


async def test_the_process_is_healthy_whatever_is_upstream(serve: Serve) -> None:
    site = await serve(script=lambda _: Behaviour(status=500))
    answer = await site.client.get("/healthz")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"
    assert answer.headers["Content-Type"] == "application/json"


async def test_without_upstream_and_registry_it_is_not_ready_and_says_why(serve: Serve) -> None:
    with refusing_url() as url:
        site = await serve(JULIA_PKG_SERVER_STORAGE_SERVERS=url)
        flavors = site.running.registries.flavors.values()
        await until(lambda: all(flavor.polls[0].error != "not asked yet" for flavor in flavors))
        answer = await site.client.get("/readyz")
    assert answer.status_code == 503
    report = answer.json()
    assert report["status"] == "unavailable"
    assert set(report["registries"]) == {"eager", "conservative"}
    assert "ConnectError" in report["registries"]["eager"]["storage_servers"][url]["error"]


async def test_it_becomes_ready_when_the_upstream_does(serve: Serve, sample: Sample) -> None:
    site = await serve()
    assert (await site.client.get("/readyz")).status_code == 503
    site.upstream.files = sample.files
    await site.when_ready()
    assert (await site.client.get("/readyz")).json()["status"] == "ok"


async def test_with_its_upstream_gone_it_is_degraded_and_still_ready(ready: Site) -> None:
    ready.upstream.script = lambda _: Behaviour(status=500)
    flavors = ready.running.registries.flavors.values()
    await until(lambda: all(flavor.polls[0].error for flavor in flavors))
    answer = await ready.client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")


async def test_robots_are_sent_away(site: Site) -> None:
    answer = await site.client.get("/robots.txt")
    assert answer.text == "User-agent: *\nDisallow: /\n"
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


async def test_people_are_told_how_to_use_it(site: Site) -> None:
    answer = await site.client.get("/")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert f"JULIA_PKG_SERVER={PUBLIC_URL}" in answer.text


@pytest.mark.parametrize("path", ["/", "/robots.txt", "/healthz"])
async def test_head_of_a_page_is_its_get_without_the_body(site: Site, path: str) -> None:
    head, get = await site.client.head(path), await site.client.get(path)
    assert head.content == b""
    for answer in (head, get):
        del answer.headers["Date"], answer.headers["X-Request-ID"]
    assert head.headers == get.headers

"""The protocol as a client sees it, of the zipapp as it is shipped, under every CPython that it is for."""

from __future__ import annotations

import hashlib
import tomllib
from typing import TYPE_CHECKING

import pytest
from tests.e2e.client import Client
from tests.integration.storage import storage_server
from tests.integration.zipapp import running_zipapp

from pkgserver_trio.demo.sample import build_sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SAMPLE = build_sample()
PACKAGE = SAMPLE.packages[0].path
ARTIFACT = SAMPLE.artifact.path
UNKNOWN = "/artifact/" + "0" * 40


@pytest.fixture(scope="module")
def client(python: Path, zipapp: Path, unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a server that has published the sample registry."""
    folder = tmp_path_factory.mktemp("server")
    with storage_server(SAMPLE) as (upstream, _):
        settings = {"JULIA_PKG_SERVER_STORAGE_SERVERS": upstream, "PKGSERVER_PUBLIC_URL": "https://pkg.example"}
        with running_zipapp(folder, settings | {"SHIV_ROOT": str(unpacked)}, python=str(python)) as server:
            client = Client(server.url)
            while b'"status": "ok"' not in client.ask("/readyz")[2]:  # both flavors are published
                pass
            yield client
            client.close()


@pytest.mark.parametrize(
    ("headers", "flavor"),
    [
        ({}, "conservative"),
        ({"Julia_CI_Variables": "APPVEYOR=n;CI=t;TRAVIS=n"}, "eager"),
        ({"Julia_CI_Variables": "CI=n"}, "conservative"),
        ({"Julia_CI_Variables": "CI=t", "Julia_Registry_Preference": "conservative"}, "conservative"),
        ({"Julia_Registry_Preference": "newest, eager"}, "eager"),
    ],
)
def test_registries_redirects_to_the_flavor_that_suits_the_client(
    client: Client, headers: dict[str, str], flavor: str
) -> None:
    status, answered, _ = client.ask("/registries", **headers)
    assert (status, answered["Location"]) == (302, f"/registries.{flavor}")
    assert answered["Vary"] == "Julia-Registry-Preference, Julia-CI-Variables"


def test_flavor_lists_the_registry_and_knows_its_own_list_again(client: Client) -> None:
    status, headers, body = client.ask("/registries.eager")
    assert (status, body) == (200, f"{SAMPLE.registry.path}\n".encode())
    assert headers["ETag"] == f'"{hashlib.sha256(body).hexdigest()}"'
    assert client.ask("/registries.eager", If_None_Match=headers["ETag"])[::2] == (304, b"")
    assert client.ask("/registries.nightly")[0] == 404


def test_uncached_resource_is_seen_by_head_downloaded_by_get_and_cached(client: Client) -> None:
    status, headers, body = client.ask(PACKAGE, "HEAD")
    assert (status, headers["X-Cache-Miss"], body) == (200, "miss", b"")
    assert headers["Content-Length"] == str(len(SAMPLE.files[PACKAGE]))
    status, headers, body = client.ask(PACKAGE)
    assert (status, headers["X-Cache-Miss"], body) == (200, "miss", SAMPLE.files[PACKAGE])
    while headers["X-Cache-Miss"]:  # it is not a hit before it is safely on disk
        status, headers, body = client.ask(PACKAGE)
        assert (status, body) == (200, SAMPLE.files[PACKAGE])
    assert headers["Content-Type"] == "application/x-gzip"
    assert headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert client.ask(PACKAGE, If_None_Match=headers["ETag"])[::2] == (304, b"")


@pytest.mark.parametrize(
    ("wanted", "part"), [("bytes=0-0", slice(0, 1)), ("bytes=5-", slice(5, None)), ("bytes=-7", slice(-7, None))]
)
def test_range_is_a_slice(client: Client, wanted: str, part: slice) -> None:
    status, headers, body = client.ask(ARTIFACT, Range=wanted)
    assert (status, body) == (206, SAMPLE.files[ARTIFACT][part])
    assert headers["Content-Range"].endswith(f"/{len(SAMPLE.files[ARTIFACT])}")


def test_range_past_the_end_is_refused_with_the_size(client: Client) -> None:
    size = len(SAMPLE.files[ARTIFACT])
    status, headers, _ = client.ask(ARTIFACT, Range=f"bytes={size}-")
    assert (status, headers["Content-Range"]) == (416, f"bytes */{size}")


def test_artifact_toml_names_the_artifact_as_this_server_has_it(client: Client) -> None:
    status, headers, body = client.ask(f"{ARTIFACT}/picture")
    assert (status, headers["Content-Type"]) == (200, "application/toml")
    assert headers["Content-Disposition"] == "attachment; filename=Artifacts.toml"
    [download] = tomllib.loads(body.decode())["picture"]["download"]
    assert download["url"] == f"https://pkg.example{ARTIFACT}"
    assert download["sha256"] == hashlib.sha256(SAMPLE.files[ARTIFACT]).hexdigest()


@pytest.mark.parametrize(
    "path", [UNKNOWN, "/%70ackage" + PACKAGE[8:], "/" + PACKAGE, PACKAGE + "/", PACKAGE.upper(), "/nothing", "/../etc"]
)
def test_what_is_not_there_is_not_found(client: Client, path: str) -> None:
    assert client.ask(path)[0] == 404


def test_other_methods_are_not_allowed(client: Client) -> None:
    for path in ("/", "/registries", PACKAGE):
        status, headers, _ = client.ask(path, "POST")
        assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_small_pages_answer(client: Client) -> None:
    assert client.ask("/robots.txt")[2] == b"User-agent: *\nDisallow: /\n"
    assert client.ask("/healthz")[2] == b'{"status": "ok"}\n'
    assert b"https://pkg.example" in client.ask("/?query=ignored")[2]

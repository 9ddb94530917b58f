"""`/registries` and what it leads to.

Answers of PkgServer.jl's tests: "Direct HTTP requests" as far as registries go, and that clients in CI get the eager
flavor. Ours differ: a flavor that is not served is never redirected to.
"""

from __future__ import annotations

import io
import re
import shutil
import tarfile
from typing import TYPE_CHECKING

import pytest
from tests.acceptance.target import lacks
from tests.conftest import require
from tests.unit.test_sample import git_tree_hash

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.target import Target
    from tests.e2e.client import Client
    from tests.integration.storage import ScriptedStorage

LINE = re.compile(r"/registry/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/[0-9a-f]{40}")
CI = "APPVEYOR=n;CI=t;CIRCLECI=n;GITHUB_ACTIONS=o"


@pytest.fixture
def flavored(target: Target) -> None:
    """Skip what a flavorless server does not have."""
    if target.flavorless:
        lacks("flavor of its registries")


def listed(client: Client, path: str = "/registries") -> list[str]:
    """Return the lines at `path`, or where it redirects to."""
    status, headers, body = client.ask(path)
    if status == 302:
        return listed(client, headers["Location"])
    assert (status, headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
    assert body.endswith(b"\n")
    return body.decode().splitlines()


def test_registries_are_resources_each_on_its_line(client: Client) -> None:
    lines = listed(client)
    assert lines
    assert lines == sorted(lines)
    assert all(LINE.fullmatch(line) for line in lines)


@pytest.mark.usefixtures("flavored")
@pytest.mark.parametrize("flavor", ["eager", "conservative"])
def test_each_flavor_is_such_a_list(client: Client, flavor: str) -> None:
    lines = listed(client, f"/registries.{flavor}")
    assert lines
    assert all(LINE.fullmatch(line) for line in lines)


@pytest.mark.usefixtures("flavored")
@pytest.mark.parametrize(
    ("headers", "flavor"),
    [
        ({}, "conservative"),
        ({"Julia_CI_Variables": ""}, "conservative"),
        ({"Julia_CI_Variables": "CI=n;TRAVIS=f"}, "conservative"),
        ({"Julia_CI_Variables": CI}, "eager"),
        ({"Julia_Registry_Preference": "eager"}, "eager"),
        ({"Julia_Registry_Preference": "conservative", "Julia_CI_Variables": CI}, "conservative"),
        ({"Julia_Registry_Preference": "newest"}, "conservative"),
    ],
)
def test_client_is_redirected_to_the_flavor_that_it_prefers_and_one_in_ci_to_the_eager_one(
    client: Client, headers: dict[str, str], flavor: str
) -> None:
    status, answered, _ = client.ask("/registries", **headers)
    assert status == 302
    assert answered["Location"].endswith(f"/registries.{flavor}")


@pytest.mark.usefixtures("flavored")
def test_unknown_flavor_is_not_found(client: Client) -> None:
    assert client.ask("/registries.newest")[0] == 404


def test_registry_is_the_tree_that_it_is_named_by(client: Client, tmp_path: Path) -> None:
    require("git", available=shutil.which("git") is not None, how_to_get="install git, the reference for tree hashes")
    for path in listed(client):
        status, headers, body = client.ask(path)
        assert (status, headers["Content-Type"]) == (200, "application/x-gzip")
        assert headers["Content-Length"] == str(len(body))
        folder = tmp_path / path[1:]
        with tarfile.open(fileobj=io.BytesIO(body), mode="r:gz") as tar:
            tar.extractall(folder, filter="data")
        assert git_tree_hash(folder) == path.rpartition("/")[2]


def test_published_registry_is_what_the_storage_server_has(client: Client, storage: ScriptedStorage) -> None:
    for path in listed(client):
        assert client.ask(path)[2] == storage.files[path]


def test_what_is_published_is_in_the_folder_of_the_store(target: Target, client: Client) -> None:
    if not target.roots:
        lacks("folder")
    lists = ["registries"] if target.flavorless else ["registries.eager", "registries.conservative"]
    for name in lists:
        for path in listed(client, f"/{name}"):
            assert any(path in (root / "static" / name).read_text().splitlines() for root in target.roots)
            assert any((root / "cache" / path[1:]).is_file() for root in target.roots)

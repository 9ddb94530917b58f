"""What monitors and robots read.

Answers of PkgServer.jl's tests: "Direct HTTP requests" as far as `/meta`, `/robots.txt` and unknown paths go. Ours
differ: `/robots.txt` is two lines, as robots understand it.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.acceptance.target import Target
    from tests.e2e.client import Client
    from tests.integration.storage import ScriptedStorage

REGIONS = ("us-west", "us-east", "eu-central", "in", "au", "kr", "sg")


def get_json(client: Client, path: str) -> object:
    status, headers, body = client.ask(path)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    return json.loads(body)


def test_meta_says_what_the_server_is_and_does(target: Target, client: Client) -> None:
    meta = get_json(client, "/meta")
    assert isinstance(meta, dict)
    assert meta["pkgserver_version"]
    assert tuple(int(part) for part in meta["julia_version"].split(".")) >= (1, 3, 0)
    assert (meta["registry_update_task"], meta["registry_watchdog_task"]) == ("started", "started")
    assert meta["pkgserver_url"] == (target.public_url or meta["pkgserver_url"])
    assert meta["pkgserver_url"].startswith("http")
    assert meta["maxrss"] > 1_000_000
    assert int(meta["live_tasks"]) > 0
    start, update = (datetime.fromisoformat(meta[name]) for name in ("start_time", "last_registry_update"))
    assert (start.tzinfo, update.tzinfo) == (None, None)


def test_siblings_are_the_official_servers(client: Client) -> None:
    siblings = get_json(client, "/meta/siblings")
    assert isinstance(siblings, list)
    assert {f"https://{region}.pkg.julialang.org" for region in REGIONS} <= set(siblings)


def test_there_are_no_children(client: Client) -> None:
    assert get_json(client, "/meta/children") == []


def test_parents_are_the_storage_servers(client: Client, storage: ScriptedStorage) -> None:
    assert get_json(client, "/meta/parents") == [storage.url]


def test_robots_are_sent_away(client: Client) -> None:
    status, headers, body = client.ask("/robots.txt")
    assert (status, headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
    assert body == b"User-agent: *\nDisallow: /\n"


def test_there_is_a_page_for_people(client: Client) -> None:
    status, headers, body = client.ask("/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"</html>" in body


@pytest.mark.parametrize(
    "path",
    [
        "/docs",
        "/meta/cousins",
        "/registry/23338594-aafe-5451-b93e-139f81909106",
        f"/artifact/{'0' * 39}",
        f"/artifact/{'0' * 40}/",
        f"//artifact/{'0' * 40}",
        f"/%61rtifact/{'0' * 40}",
        f"/artifact/{'A' * 40}",
    ],
)
def test_what_is_no_path_of_ours_is_not_found(client: Client, path: str) -> None:
    assert client.ask(path)[0] == 404


def test_resource_that_no_storage_server_has_is_not_found(client: Client, storage: ScriptedStorage) -> None:
    path = f"/artifact/{'0' * 40}"
    assert client.ask(path)[0] == 404
    assert f"GET {path}" not in storage.requests

"""A real Julia client and two registries from one server: it installs from both, and follows a head that moves."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.integration.julia_client import JuliaClient, require_chroot
from tests.integration.second_registry import LOCAL_UUID, second_registry
from tests.integration.storage import open_storage
from tests.integration.zipapp import running_zipapp

from pkgserver_trio.demo.sample import GENERAL_UUID, build_sample

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

INSTALL = 'using Pkg; Pkg.add("Hello"); Pkg.add("Extra"); using Hello, Extra; print("release ", Extra.release())'
UPDATE = 'using Pkg; Pkg.update(); using Extra; print("release ", Extra.release())'
LISTINGS = ("/registries", "/registries.eager", "/registries.conservative")


def publish(files: dict[str, bytes], *, releases: int) -> bytes:
    """Let the storage server offer so many releases of the second registry's package; return its new list."""
    sample = build_sample()
    path, more = second_registry(releases)
    listing = "".join(f"{one}\n" for one in sorted([path, sample.registry.path])).encode()
    files |= {**sample.files, **more, **dict.fromkeys(LISTINGS, listing)}
    return listing


def wait_until_listed(url: str, listing: bytes) -> float:
    """Return how many seconds it took until the server lists what is listed upstream."""
    began = time.monotonic()
    while time.monotonic() - began < 20:
        if httpx.get(f"{url}/registries.conservative", trust_env=False).content == listing:
            return time.monotonic() - began
    pytest.fail("the new list never came")


def test_client_installs_from_two_registries_and_updates_when_a_head_moves(tmp_path: Path) -> None:
    chroot = require_chroot()
    files: dict[str, bytes] = {}
    listing = publish(files, releases=1)
    with open_storage(files) as storage:
        settings = {
            "JULIA_PKG_SERVER_STORAGE_SERVERS": storage.url,
            "PKGSERVER_REGISTRIES": f"{GENERAL_UUID},{LOCAL_UUID}",
        }
        with running_zipapp(tmp_path / "server", settings) as server:
            wait_until_listed(server.url, listing)
            client = JuliaClient(chroot, tmp_path / "depot", server.url)
            client.depot.mkdir()
            outcome = client.run(INSTALL)
            assert outcome.stdout.endswith("release 0"), outcome
            listing = publish(files, releases=2)
            assert wait_until_listed(server.url, listing) < 5, "two periods and the transfer"
            outcome = client.run(UPDATE)
            assert outcome.stdout.endswith("release 1"), outcome
    names = {path.parent.name for path in client.depot.glob("registries/*/Registry.toml")}
    assert names == {"General", "Local"}
    assert not list(client.depot.glob("clones/*"))
    assert not list(client.depot.glob("registries/*/.git"))

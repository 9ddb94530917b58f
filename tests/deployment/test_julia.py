"""Real clients of the deployment: Julia, and over TLS with a certificate that a real authority has issued."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from tests.acceptance.target import eventually
from tests.deployment.stack import SERVERS
from tests.integration.julia_client import JuliaClient, require_chroot
from tests.integration.test_julia_install import INSTALL, expected_trees, installed_trees

from pkgserver_trio.demo.sample import build_sample

if TYPE_CHECKING:
    from pathlib import Path

    from tests.deployment.stack import Stack

pytestmark = pytest.mark.integration

FQDN = "pkg.example.org"
SAMPLE = build_sample()


def install(stack: Stack, folder: Path, url: str) -> None:
    """Install the sample by a fresh client, and look at what is installed."""
    folder.mkdir()
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{stack.engine.address} {FQDN}\n")
    client = JuliaClient(
        require_chroot(), folder / "depot", url, hosts=hosts, environment={"CURL_CA_BUNDLE": "/depot/root.pem"}
    )
    client.depot.mkdir()
    if url.startswith("https:"):
        (client.depot / "root.pem").write_text((stack.folder / "root.pem").read_text())
    outcome = client.run(INSTALL)
    assert outcome.stdout.endswith("installed"), outcome
    assert installed_trees(client.depot, folder / "git") == expected_trees(SAMPLE)
    assert not list(client.depot.glob("clones/*")), "a git clone happened"


def hits(stack: Stack) -> int:
    """Return how many hits both servers have counted since they started."""
    answers = (httpx.get(f"{url}/meta/stats", trust_env=False).json() for url in stack.server_urls())
    return sum(int(answer["total_hits"]) for answer in answers)


def test_julia_installs_and_again_from_nginx_alone_and_its_hits_are_counted_later(
    running: Stack, tmp_path: Path
) -> None:
    install(running, tmp_path / "first", running.url)
    running.compose("stop", *SERVERS)
    try:
        install(running, tmp_path / "second", running.url)
    finally:
        running.make()
    resources = 1 + len(SAMPLE.packages) + 1  # registry, packages, artifact
    eventually(lambda: hits(running) >= resources)

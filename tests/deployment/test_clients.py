"""Real clients of the deployment: Julia, and over TLS with a certificate that a real authority has issued."""

from __future__ import annotations

import socket
import ssl
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.acceptance.target import eventually
from tests.deployment.authority import running_authority
from tests.deployment.stack import SERVERS, unpacked_stack
from tests.integration.julia_client import JuliaClient, require_chroot
from tests.integration.storage import open_storage
from tests.integration.test_julia_install import INSTALL, expected_trees, installed_trees

from pkgserver_trio.demo.sample import build_sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.deployment.containers import Engine
    from tests.deployment.stack import Stack

pytestmark = pytest.mark.integration

FQDN = "pkg.example.org"
SAMPLE = build_sample()


@contextmanager
def running_stack(engine: Engine, **values: str) -> Iterator[Stack]:
    with ExitStack() as parts:
        storage = parts.enter_context(open_storage(SAMPLE.files, engine.host_address))
        stack = parts.enter_context(unpacked_stack(engine))
        stack.write_env(PKG_SERVER_FQDN=FQDN, STORAGE_SERVERS=storage.url, **values)
        folder = stack.folder / "state/letsencrypt"
        folder.mkdir(parents=True)
        if "CERTBOT_EMAIL" in values:
            authority = parts.enter_context(running_authority(stack.folder, engine.host_address, engine.address))
            (folder / "acme-directory").write_text(authority.directory_url)
            (stack.folder / "root.pem").write_text(authority.root)
        stack.make()
        yield stack


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
    engine: Engine, images: None, tmp_path: Path
) -> None:
    with running_stack(engine, DISABLE_TLS="1") as stack:
        install(stack, tmp_path / "first", stack.url)
        stack.compose("stop", *SERVERS)
        install(stack, tmp_path / "second", stack.url)
        stack.compose("start", *SERVERS)
        resources = 1 + len(SAMPLE.packages) + 1  # registry, packages, artifact
        eventually(lambda: is_up(stack))
        eventually(lambda: hits(stack) >= resources)


def is_up(stack: Stack) -> bool:
    return httpx.get(f"{stack.url}/healthz", trust_env=False).status_code == 200


def secure_connection(stack: Stack) -> ssl.SSLSocket | None:
    """Connect to port 443 as a client that trusts the authority; None while there is no such port."""
    context = ssl.create_default_context(cadata=(stack.folder / "root.pem").read_text())
    try:
        connection = socket.create_connection((stack.engine.address, 443), timeout=20)
        return context.wrap_socket(connection, server_hostname=FQDN)
    except (ConnectionError, ssl.SSLEOFError):
        return None


def has_tls(stack: Stack) -> bool:
    connection = secure_connection(stack)
    if connection is not None:
        connection.close()
    return connection is not None


def test_certificate_is_issued_by_a_real_authority_and_julia_installs_over_it(
    engine: Engine, images: None, tmp_path: Path
) -> None:
    with running_stack(engine, CERTBOT_EMAIL="admin@example.org", DISABLE_INTERNAL_DNS="1") as stack:
        eventually(lambda: has_tls(stack))
        redirect = httpx.get(f"http://{engine.address}/registries", headers={"Host": FQDN}, trust_env=False)
        assert (redirect.status_code, redirect.headers["Location"]) == (301, f"https://{FQDN}/registries")
        install(stack, tmp_path / "secure", f"https://{FQDN}")

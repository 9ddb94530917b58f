"""TLS with a certificate that a real authority has issued, and a real Julia over it."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.acceptance.target import eventually
from tests.deployment.authority import running_authority
from tests.deployment.stack import FQDN
from tests.deployment.test_julia import install

if TYPE_CHECKING:
    from pathlib import Path

    from tests.deployment.stack import Shared, Stack

pytestmark = pytest.mark.integration


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
    stack: Stack, shared: Shared, tmp_path: Path
) -> None:
    engine = stack.engine
    stack.write_env(
        PKG_SERVER_FQDN=FQDN,
        STORAGE_SERVERS=shared.storage.url,
        CERTBOT_EMAIL="admin@example.org",
        DISABLE_INTERNAL_DNS="1",
    )
    letsencrypt = stack.folder / "state/letsencrypt"
    letsencrypt.mkdir(parents=True)
    with running_authority(stack.folder, engine.host_address, engine.address) as authority:
        (letsencrypt / "acme-directory").write_text(authority.directory_url)
        (stack.folder / "root.pem").write_text(authority.root)
        stack.make()
        eventually(lambda: has_tls(stack))
    redirect = httpx.get(f"http://{engine.address}/registries", headers={"Host": FQDN}, trust_env=False)
    assert (redirect.status_code, redirect.headers["Location"]) == (301, f"https://{FQDN}/registries")
    install(stack, tmp_path / "secure", f"https://{FQDN}")
    assert httpx.get(f"{stack.url}/healthz", trust_env=False).status_code == 200, "8000 stays open"
    engine.docker("stop", "pkgserver-frontend-1")
    assert engine.inspect("pkgserver-frontend-1")["State"]["ExitCode"] == 0, "it did not end in order"

"""A real ACME authority, pebble, for which every name is at one address."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
from tests.conftest import require

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DIRECTORY_PORT, _MANAGEMENT_PORT, _NAMES_PORT, _NAMES_MANAGEMENT_PORT = 14000, 15000, 8053, 8055
_PATIENCE_SECONDS = 20


@dataclass(frozen=True)
class Authority:
    """Its directory, and the certificate that it signs with, in PEM."""

    directory_url: str
    root: str


@contextmanager
def running_authority(folder: Path, address: str, everybody: str) -> Iterator[Authority]:
    """Run pebble at `address`; whatever it looks up is at `everybody`, whose port 80 it asks."""
    require("pebble", available=shutil.which("pebble") is not None, how_to_get="apt-get install pebble")
    _make_certificate(folder, address)
    configuration = {
        "listenAddress": f"{address}:{_DIRECTORY_PORT}",
        "managementListenAddress": f"{address}:{_MANAGEMENT_PORT}",
        "certificate": str(folder / "pebble.pem"),
        "privateKey": str(folder / "pebble.key"),
        "httpPort": 80,
        "tlsPort": 443,
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": configuration}))
    names = f"{address}:{_NAMES_PORT}"
    no_challenges = ("-http01=", "-https01=", "-tlsalpn01=")
    resolver = (
        *("pebble-challtestsrv", f"-defaultIPv4={everybody}", "-defaultIPv6=", f"-dns01={names}"),
        *(f"-management={address}:{_NAMES_MANAGEMENT_PORT}", *no_challenges),
    )
    with ExitStack() as stack:
        for command in (resolver, ("pebble", f"-config={folder / 'pebble.json'}", f"-dnsserver={names}")):
            stack.enter_context(_running(folder, *command))
        root = _await_root(f"https://{address}:{_MANAGEMENT_PORT}/roots/0")
        yield Authority(f"https://{address}:{_DIRECTORY_PORT}/dir", root)


def _make_certificate(folder: Path, address: str) -> None:
    files = ("-keyout", folder / "pebble.key", "-out", folder / "pebble.pem")
    subject = ("-subj", "/CN=pebble", "-addext", f"subjectAltName=IP:{address}")
    command = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *files, *subject)
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def _running(folder: Path, *command: str) -> Iterator[None]:
    # It would wait and err at random, to test clients of ACME.
    calm = {"PATH": os.environ["PATH"], "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"}
    with (folder / f"{command[0]}.log").open("w") as log:
        process = subprocess.Popen(command, env=calm, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def _await_root(url: str) -> str:
    nobody_checks = ssl.create_default_context()
    nobody_checks.check_hostname, nobody_checks.verify_mode = False, ssl.CERT_NONE
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return httpx.get(url, verify=nobody_checks, trust_env=False).text
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise

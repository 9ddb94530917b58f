"""A front end before two servers."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.conftest import require
from tests.deployment.front_end.running import PLAIN, FrontEnd, running_front_end
from tests.fakes import FakeUpstream
from tests.web.site import PATIENCE_SECONDS, Site, start_site

from pkgserver_trio.demo.sample import build_sample

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    import trio
    from tests.fakes import Script

SAMPLE = build_sample()
#: The modification time of what is warm.
BORN = 1_700_000_000


@dataclass(frozen=True)
class Stack:
    """Two servers and what is before them; `front` is a client of it, `bare` one of the first server."""

    sites: tuple[Site, Site]
    front_end: FrontEnd
    front: httpx.AsyncClient

    @property
    def bare(self) -> httpx.AsyncClient:
        return self.sites[0].client

    async def warm(self, path: str) -> None:
        """Have `path` in both stores, from one moment: so their answers are the same whoever gives them."""
        for site in self.sites:
            await site.warm(path)
            os.utime(site.root / "cache" / path[1:], (BORN, BORN))


@asynccontextmanager
async def stack_of(
    nursery: trio.Nursery, folder: Path, settings: Mapping[str, str] = PLAIN, **changes: str
) -> AsyncIterator[Stack]:
    """Start two servers with `changes` of their settings, and a front end with `settings` of its own."""
    sites = [await start_site(nursery, folder / f"store{number}", SAMPLE.files, {}, changes) for number in (1, 2)]
    servers = [f"127.0.0.1:{site.port}" for site in sites]
    with running_front_end(folder / "front", [site.root for site in sites], servers, settings) as front_end:
        async with httpx.AsyncClient(base_url=front_end.url, timeout=PATIENCE_SECONDS, trust_env=False) as front:
            yield Stack((sites[0], sites[1]), front_end, front)
    for site in sites:
        await site.stop()


@asynccontextmanager
async def front_before(
    folder: Path,
    *servers: str,
    settings: Mapping[str, str] = PLAIN,
    places: Mapping[str, str] = MappingProxyType({}),
    port: int = 8000,
) -> AsyncIterator[tuple[FrontEnd, httpx.AsyncClient]]:
    """Run a front end before two `host:port`, with empty stores; yield it and a client of a port of it."""
    stores = [folder / "store1", folder / "store2"]
    with running_front_end(folder / "front", stores, servers, settings, places) as front_end:
        url = f"http://127.0.0.1:{front_end.ports[port]}"
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS, trust_env=False) as front:
            yield front_end, front


@asynccontextmanager
async def upstreams(script: Script) -> AsyncIterator[tuple[FakeUpstream, FakeUpstream]]:
    """Run two servers that do what `script` says, and remember what they were asked."""
    async with FakeUpstream(script=script) as first, FakeUpstream(script=script) as second:
        yield first, second


def address(upstream: FakeUpstream) -> str:
    return f"127.0.0.1:{upstream.port}"


@pytest.fixture(autouse=True)
def nginx() -> None:
    """Skip the test where there is no nginx."""
    require("nginx", available=shutil.which("nginx") is not None, how_to_get="apt-get install nginx-light")


@pytest.fixture
async def stack(nursery: trio.Nursery, tmp_path: Path) -> AsyncIterator[Stack]:
    """Give both servers, nothing cached, and the front end in plain HTTP."""
    async with stack_of(nursery, tmp_path) as stack:
        yield stack


@asynccontextmanager
async def secure_front(
    folder: Path, settings: Mapping[str, str], *servers: str
) -> AsyncIterator[tuple[FrontEnd, httpx.AsyncClient]]:
    """Run a front end with a certificate of its own; yield it and a client that trusts that."""
    certificates = folder / "certificates"
    make_certificate(certificates, "pkg.example.org")
    places = {"/certificates/": f"{certificates}/"}
    with running_front_end(
        folder / "front", [folder / "store1", folder / "store2"], servers, settings, places
    ) as front_end:
        context = ssl.create_default_context(cafile=certificates / "fullchain.pem")
        url = f"https://127.0.0.1:{front_end.ports[443]}"
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS, trust_env=False, verify=context) as front:
            yield front_end, front


def make_certificate(folder: Path, name: str) -> None:
    """Write fullchain.pem and privkey.pem, of a certificate that nobody but itself has signed."""
    require("openssl", available=shutil.which("openssl") is not None, how_to_get="apt-get install openssl")
    folder.mkdir()
    subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command = ["openssl", "req", "-x509", "-days", "2", *key, *subject]
    files = ["-keyout", str(folder / "privkey.pem"), "-out", str(folder / "fullchain.pem")]
    subprocess.run([*command, *files], check=True, capture_output=True)

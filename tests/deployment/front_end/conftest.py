"""A front end before two servers."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.deployment.front_end.running import PLAIN, FrontEnd, running_front_end
from tests.web.site import PATIENCE_SECONDS, Site, start_site

from pkgserver_trio.demo.sample import build_sample

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    import trio

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


@pytest.fixture
async def stack(nursery: trio.Nursery, tmp_path: Path) -> AsyncIterator[Stack]:
    """Give both servers, nothing cached, and the front end in plain HTTP."""
    async with stack_of(nursery, tmp_path) as stack:
        yield stack

"""A server in front of a scripted upstream, started by each test as it needs it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.web.site import Serve, Site, start_site
from tests.web.tarball import Tarball, build_tarball

from pkgserver_trio.demo.sample import Sample, build_sample

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    import trio
    from tests.fakes import Script

NOTHING: Final[Mapping[Any, Any]] = MappingProxyType({})


@pytest.fixture(scope="session")
def sample() -> Sample:
    return build_sample()


@pytest.fixture(scope="session")
def large() -> Tarball:
    """Give a resource larger than the socket buffers of a connection (20 MB)."""
    return build_tarball(20_000_000)


@pytest.fixture
async def serve(nursery: trio.Nursery, tmp_path: Path) -> AsyncIterator[Serve]:
    """Give a function that starts a server on a store below `tmp_path`."""
    sites: list[Site] = []

    async def start(
        *,
        files: Mapping[str, bytes] = NOTHING,
        script: Script = NOTHING,
        ready: bool = False,
        **changes: str,
    ) -> Site:
        site = await start_site(nursery, tmp_path / "store", files, script, changes)
        sites.append(site)
        if ready:
            await site.when_ready()
        return site

    yield start
    for site in sites:
        await site.stop()


@pytest.fixture
async def site(serve: Serve, sample: Sample) -> Site:
    """Give a server in front of the sample."""
    return await serve(files=sample.files)


@pytest.fixture
async def ready(serve: Serve, sample: Sample) -> Site:
    """Give a server in front of the sample that has registries to serve."""
    return await serve(files=sample.files, ready=True)

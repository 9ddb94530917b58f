"""A client that takes nothing of its answer is cut off; until then it holds its connection and a file, nothing else."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from tests.web.raw import connected
from tests.web.site import PATIENCE_SECONDS, until

if TYPE_CHECKING:
    from tests.web.site import Serve, Site
    from tests.web.tarball import Tarball

    from pkgserver_trio.demo.sample import Sample

#: A limit that a test which passes never reaches.
NEVER = "600"
SOON = "0.5"


def open_tarballs(site: Site) -> list[str]:
    """Return the files of `cache/` and `temp/` that this process has open, by the names they have or had."""
    names = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the descriptor of this very folder
            names.append(str(descriptor.readlink()))
    return [name for name in names if name.startswith((f"{site.root}/cache/", f"{site.root}/temp/"))]


async def test_it_holds_no_flight(serve: Serve, large: Tarball) -> None:
    site = await serve(files={large.path: large.body}, PKGSERVER_READ_STALL_SECONDS=SOON)
    async with connected(site.port) as stalled:
        await stalled.ask(large.path)
        await stalled.head()
        await site.settle()
        assert large.path in site.cached
        assert (await site.client.get(large.path)).content == large.body
        await until(lambda: not open_tarballs(site))
        assert len(await stalled.rest()) < len(large.body)


async def test_it_holds_no_eviction(serve: Serve, large: Tarball, sample: Sample) -> None:
    files = {large.path: large.body, **sample.files}
    room = str(len(large.body) + 5000)
    site = await serve(files=files, PKGSERVER_READ_STALL_SECONDS=SOON, PKGSERVER_MAX_CACHE=room)
    await site.warm(large.path)
    async with connected(site.port) as stalled:
        await stalled.ask(large.path)
        await stalled.head()
        path = sample.artifact.path
        assert (await site.client.get(path)).content == files[path]
        await site.settle()
        assert large.path not in site.cached
        assert path in site.cached
        assert any(name.endswith("(deleted)") for name in open_tarballs(site))
        await until(lambda: not open_tarballs(site))  # only now is its room free
        assert len(await stalled.rest()) < len(large.body)


async def test_a_slow_reader_of_an_evicted_file_gets_all_of_it(serve: Serve, large: Tarball, sample: Sample) -> None:
    files = {large.path: large.body, **sample.files}
    site = await serve(files=files, PKGSERVER_MAX_CACHE=str(len(large.body) + 5000))
    await site.warm(large.path)
    async with connected(site.port) as slow:
        await slow.ask(large.path)
        await slow.head()
        await site.client.get(sample.artifact.path)
        await site.settle()
        assert large.path not in site.cached
        assert await slow.exactly(len(large.body)) == large.body


async def test_it_holds_no_shutdown(serve: Serve, large: Tarball) -> None:
    files = {large.path: large.body}
    site = await serve(files=files, PKGSERVER_READ_STALL_SECONDS=NEVER, PKGSERVER_GRACEFUL_SECONDS="0.2")
    async with connected(site.port) as stalled:
        await stalled.ask(large.path)
        await stalled.head()
        with trio.fail_after(PATIENCE_SECONDS / 4):
            await site.stop()
        assert len(await stalled.rest()) < len(large.body)
    assert open_tarballs(site) == []

"""From the start to the end: what stops a start, what a stop waits for and for how long, what it leaves behind."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
from tests.web.raw import connected
from tests.web.site import PATIENCE_SECONDS, STORAGE_SERVERS, halved, settings_for, until

from pkgserver_trio.main import run
from pkgserver_trio.opening import StartError
from pkgserver_trio.storage.store_lock import StoreLockedError, owned

if TYPE_CHECKING:
    from pathlib import Path

    from tests.web.site import Serve, Site
    from tests.web.tarball import Tarball

    from pkgserver_trio.demo.sample import Sample

NOWHERE = {STORAGE_SERVERS: "http://upstream.invalid"}
#: A limit that a test which passes never reaches.
AMPLE = str(PATIENCE_SECONDS)


async def test_a_stop_while_files_are_inspected_is_orderly(serve: Serve, large: Tarball) -> None:
    first = await serve(files={large.path: large.body})
    tree_hash = large.path.rpartition("/")[2]
    for number in range(40):  # inherited from another server, as far as the store knows
        path = first.root / "cache" / "package" / f"00000000-0000-4000-8000-{number:012}" / tree_hash
        path.parent.mkdir(parents=True)
        path.write_bytes(large.body)
    await first.stop()
    second = await serve(files={large.path: large.body})
    await until(lambda: list(second.library.store.suspects()))
    await second.stop()
    assert second.unfinished == []


async def test_a_running_answer_finishes(serve: Serve, large: Tarball) -> None:
    site = await serve(files={large.path: large.body}, PKGSERVER_GRACEFUL_SECONDS=AMPLE)
    await site.warm(large.path)
    async with connected(site.port) as raw:
        await raw.ask(large.path)
        await raw.head()
        site.running.stopping.set()
        await until(site.running.server.context.terminated.is_set)
        assert await raw.exactly(len(large.body)) == large.body
        assert await raw.rest() == b""
    await site.stop()


async def test_no_connection_is_accepted_after_the_stop(site: Site) -> None:
    await site.stop()
    with pytest.raises(OSError, match="all attempts to connect"):
        await trio.open_tcp_stream("127.0.0.1", site.port)


async def test_an_idle_connection_is_closed_at_once(serve: Serve) -> None:
    site = await serve(PKGSERVER_GRACEFUL_SECONDS="600", PKGSERVER_REQUEST_HEAD_SECONDS="600")
    async with connected(site.port) as raw:
        await raw.ask("/robots.txt")
        await raw.exactly(int((await raw.head()).headers["content-length"]))
        await site.stop()
        assert await raw.rest() == b""


async def begin_gated(serve: Serve, sample: Sample, release: trio.Event, drain_seconds: str = "0.3") -> Site:
    """Start a server that downloads the artifact, half of it until `release`, for a client that has left."""
    path, body = sample.artifact.path, sample.files[sample.artifact.path]
    script = {("GET", path): halved(body, release)}
    site = await serve(script=script, files=sample.files, PKGSERVER_DRAIN_SECONDS=drain_seconds)
    async with connected(site.port) as raw:
        await raw.ask(path)
        await raw.head()
    return site


async def test_a_running_flight_finishes_and_its_resource_is_cached_after_a_restart(
    serve: Serve, sample: Sample
) -> None:
    path, release = sample.artifact.path, trio.Event()
    site = await begin_gated(serve, sample, release, drain_seconds=AMPLE)
    site.running.stopping.set()
    await until(site.running.server.context.terminated.is_set)
    release.set()
    await site.stop()
    assert path in site.cached
    again = await serve()
    hit = await again.client.get(path)
    assert hit.content == sample.files[path]
    assert "X-Cache-Miss" not in hit.headers
    assert again.upstream.requests("HEAD", path) == 0


async def test_after_the_deadlines_nothing_is_left_behind(serve: Serve, sample: Sample) -> None:
    site = await begin_gated(serve, sample, trio.Event())
    assert site.unfinished
    async with connected(site.port) as raw:
        await raw.ask(sample.artifact.path)
        await raw.head()
        await site.stop()
        assert len(await raw.rest()) < len(sample.files[sample.artifact.path])
    assert site.unfinished == []
    assert sample.artifact.path not in site.cached


async def test_a_start_throws_unfinished_work_away_and_keeps_what_is_published(serve: Serve, sample: Sample) -> None:
    first = await serve(files=sample.files, ready=True)
    await first.stop()
    (first.root / "temp" / "rubbish").mkdir()
    (first.root / "temp" / "rubbish" / "file").touch()
    (first.root / "temp" / "other").touch()
    second = await serve()
    assert second.unfinished == []
    assert (await second.client.get("/registries.eager")).text == f"{sample.registry.path}\n"
    assert (await second.client.get(sample.registry.path)).content == sample.files[sample.registry.path]


async def test_a_second_server_on_the_same_store_refuses_and_names_the_owner(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pkgserver_trio.main.owned", partial(owned, wait_seconds=0))
    with pytest.raises(StoreLockedError, match=r"host .*, pid \d+, started "):
        await run(settings_for(site.root, **NOWHERE), trio.Event())


async def test_a_second_server_on_the_same_store_empties_no_temp_folder(
    serve: Serve, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = trio.Event()
    site = await begin_gated(serve, sample, release)
    monkeypatch.setattr("pkgserver_trio.main.owned", partial(owned, wait_seconds=0))
    with pytest.raises(StoreLockedError):
        await run(settings_for(site.root, **NOWHERE), trio.Event())
    assert site.unfinished
    release.set()
    await site.settle()
    assert sample.artifact.path in site.cached


async def test_a_port_in_use_stops_the_start(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        settings = settings_for(tmp_path, JULIA_PKG_SERVER=f"127.0.0.1:{port}", **NOWHERE)
        with pytest.raises(StartError, match=f"port {port}"):
            await run(settings, trio.Event())


async def test_a_store_that_cannot_be_made_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match="storage root"):
        await run(settings_for(tmp_path / "file", **NOWHERE), trio.Event())


async def test_a_temp_folder_that_cannot_be_emptied_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rubbish = tmp_path / "temp" / "rubbish"
    rubbish.mkdir(parents=True)

    def refuse(path: Path) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)

    monkeypatch.setattr(shutil, "rmtree", refuse)
    expected = f"{tmp_path / 'temp'} cannot be emptied: {os.strerror(errno.EBUSY)} ({rubbish})"
    with pytest.raises(StartError, match=re.escape(expected)):
        await run(settings_for(tmp_path, **NOWHERE), trio.Event())


async def test_a_client_that_stops_reading_is_cut_and_others_are_not(serve: Serve, large: Tarball) -> None:
    site = await serve(files={large.path: large.body}, PKGSERVER_READ_STALL_SECONDS="0.3")
    await site.warm(large.path)
    await site.client.aclose()
    async with connected(site.port) as stalled:
        await stalled.ask(large.path)
        await stalled.head()
        await until(lambda: not site.running.server.connections)
        assert len(await stalled.rest()) < len(large.body)
    async with connected(site.port) as other:
        await other.ask("/robots.txt")
        assert (await other.head()).status == 200

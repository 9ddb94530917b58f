"""One test, at least, for each trap of the stack that was measured: an upgrade that moves one of them turns red here.

The numbers are those of the architecture's list. Trap 6, where the zipapp unpacks itself, needs a zipapp: tests/e2e.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
import trio
from tests.web.raw import connected
from tests.web.site import PATIENCE_SECONDS, halved, until

from pkgserver_trio.storage.disk import Disk
from pkgserver_trio.storage.open_file import PIECE_BYTES

if TYPE_CHECKING:
    from tests.web.site import Serve, Site
    from tests.web.tarball import Tarball

    from pkgserver_trio.demo.sample import Sample

#: Longer than any test waits, so that it is not idleness that closes a connection.
NEVER = "600"


async def test_trap_1_a_disconnect_cancels_no_download(serve: Serve, sample: Sample) -> None:
    path, body, release = sample.artifact.path, sample.files[sample.artifact.path], trio.Event()
    site = await serve(script={("GET", path): halved(body, release)}, files=sample.files)
    async with connected(site.port) as raw:
        await raw.ask(path)
        await raw.head()
    await until(lambda: not site.running.server.connections)
    release.set()
    await site.settle()
    assert path in site.cached


async def test_trap_2_no_response_timeout_cuts_a_long_body(site: Site) -> None:
    wrapper: Any = site.running.server.app
    assert wrapper.app.config["RESPONSE_TIMEOUT"] is None


@pytest.mark.parametrize("path", ["/robots.txt", "a hit", "a miss", "/nowhere"])
@pytest.mark.parametrize(("version", "line"), [("1.1", "Connection: close"), ("1.0", "Accept: */*")])
async def test_trap_3_the_connection_is_closed_after_its_last_answer(
    serve: Serve, sample: Sample, path: str, version: str, line: str
) -> None:
    site = await serve(files=sample.files, PKGSERVER_REQUEST_HEAD_SECONDS=NEVER)
    if path == "a hit":
        await site.warm(sample.artifact.path)
    target = sample.artifact.path if path.startswith("a ") else path
    with trio.fail_after(PATIENCE_SECONDS):
        async with connected(site.port) as raw:
            await raw.ask(target, line, version=version)
            length = int((await raw.head()).headers["content-length"])
            assert len(await raw.rest()) == length


async def test_trap_3_a_connection_on_which_nothing_comes_is_closed(serve: Serve) -> None:
    site = await serve(PKGSERVER_REQUEST_HEAD_SECONDS="0.1")
    with trio.fail_after(PATIENCE_SECONDS):
        async with connected(site.port) as raw:
            assert await raw.rest() == b""


async def test_trap_3_an_idle_keep_alive_connection_is_closed(serve: Serve, sample: Sample) -> None:
    site = await serve(files=sample.files, PKGSERVER_REQUEST_HEAD_SECONDS="0.2")
    path = sample.artifact.path
    with trio.fail_after(PATIENCE_SECONDS):
        async with connected(site.port) as raw:
            for _ in range(2):  # it is kept until then
                await raw.ask(path)
                await raw.head()
                assert await raw.exactly(len(sample.files[path])) == sample.files[path]
            assert await raw.rest() == b""


async def test_trap_4_a_stalled_reader_does_not_hold_up_the_end(serve: Serve, large: Tarball) -> None:
    site = await serve(files={large.path: large.body}, PKGSERVER_GRACEFUL_SECONDS="0.2", PKGSERVER_DRAIN_SECONDS="0.1")
    await site.warm(large.path)
    async with connected(site.port) as raw:
        await raw.ask(large.path)
        await raw.head()
        with trio.fail_after(PATIENCE_SECONDS / 4):  # far less than the stall limit of 60 s
            await site.stop()
        assert len(await raw.rest()) < len(large.body)


async def test_trap_5_a_file_is_read_in_large_pieces(
    site: Site, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, reads = sample.artifact.path, list[int]()
    await site.warm(path)
    real = Disk.read_if_cached

    def counting(disk: Disk, fd: int, size: int, offset: int) -> bytes | None:
        reads.append(size)
        return real(disk, fd, size, offset)

    monkeypatch.setattr(Disk, "read_if_cached", counting)
    await site.client.get(path)
    size = len(sample.files[path])
    assert reads == [PIECE_BYTES] * (size // PIECE_BYTES) + [size % PIECE_BYTES]


async def test_trap_7_one_line_is_logged_per_request_and_a_used_connection_lives(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    count = site.running.server.config.keep_alive_max_requests + 1
    async with connected(site.port) as raw:
        for _ in range(count):
            await raw.ask("/robots.txt")
            await raw.exactly(int((await raw.head()).headers["content-length"]))
    await until(lambda: not site.running.server.connections)
    assert "".join(capsys.readouterr()).count("robots") == count


@pytest.mark.parametrize("path", ["/%72obots.txt", "//robots.txt", "/robots.txt/", "/./robots.txt", "/x/../robots.txt"])
async def test_trap_8_a_path_is_matched_as_it_was_sent(site: Site, path: str) -> None:
    async with connected(site.port) as raw:
        await raw.ask(path)
        head = await raw.head()
        assert head.status == 404
        assert "location" not in head.headers


async def test_trap_9_an_h2c_upgrade_is_answered_in_http_1_1(site: Site) -> None:
    upgrade = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")
    async with connected(site.port) as raw:
        for _ in range(2):
            await raw.ask("/robots.txt", *upgrade)
            head = await raw.head()
            assert head.status == 200
            await raw.exactly(int(head.headers["content-length"]))


async def test_trap_9_http_2_by_prior_knowledge_is_refused(serve: Serve) -> None:
    site = await serve(PKGSERVER_REQUEST_HEAD_SECONDS=NEVER)
    with trio.fail_after(PATIENCE_SECONDS):
        async with connected(site.port) as raw:
            await raw.stream.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
            assert (await raw.head()).status == 505
            assert (await raw.rest()).count(b"\n") == 1


async def test_trap_9_a_websocket_handshake_is_an_ordinary_request(site: Site) -> None:
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    async with connected(site.port) as raw:
        await raw.ask("/robots.txt", *upgrade, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
        head = await raw.head()
        assert head.status == 200
        assert "upgrade" not in head.headers


async def test_trap_10_a_cold_file_is_read_in_a_thread(
    site: Site, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, threads = sample.artifact.path, set[int]()
    await site.warm(path)
    real = Disk.read

    def noting(disk: Disk, fd: int, size: int, offset: int) -> bytes:
        threads.add(threading.get_ident())
        return real(disk, fd, size, offset)

    monkeypatch.setattr(Disk, "read_if_cached", lambda *_: None)
    monkeypatch.setattr(Disk, "read", noting)
    assert (await site.client.get(path)).content == sample.files[path]
    assert threads
    assert threading.get_ident() not in threads


async def test_trap_10_the_loop_itself_reads_only_what_needs_no_wait(
    site: Site, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.warm(sample.artifact.path)
    flags = set[int]()
    real = os.preadv

    def noting(fd: int, buffers: list[bytearray], offset: int, flag: int = 0) -> int:
        flags.add(flag)
        return real(fd, buffers, offset, flag)

    monkeypatch.setattr(os, "preadv", noting)
    await site.client.get(sample.artifact.path)
    assert flags == {os.RWF_NOWAIT}

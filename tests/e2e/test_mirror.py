"""The zipapp as a mirror before a real origin: a crowd on one large object costs one download and little memory."""

from __future__ import annotations

import hashlib
import re
from contextlib import AsyncExitStack, contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import trio
from tests.integration.zipapp import running_zipapp

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

CLIENTS = 100
#: How many of them read all of it: every byte that these get is compared here, in the same seconds.
READERS = 2
MIB = 1024 * 1024
SIZE_BYTES = 500 * MIB
TASTE_BYTES = 1 * MIB
MOST_RSS_BYTES = 120 * 10**6
#: What the object is made of: no piece of the right size in the wrong place looks right.
CYCLE = hashlib.shake_256(b"mirror").digest(MIB + 7)
TWICE = CYCLE * 2
PATIENCE_SECONDS = 120


class Origin(BaseHTTPRequestHandler):
    """An origin of one large object, made as it is sent."""

    protocol_version = "HTTP/1.1"
    gets: list[str]

    def do_HEAD(self) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("ETag", '"large"')
        self.send_header("Content-Length", str(SIZE_BYTES))
        self.end_headers()

    def do_GET(self) -> None:
        self.gets.append(self.path)
        self.do_HEAD()
        left = SIZE_BYTES
        while left:
            left -= self.wfile.write(CYCLE[:left])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def running_origin() -> Iterator[tuple[str, list[str]]]:
    gets: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Counting", (Origin,), {"gets": gets})) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", gets
        finally:
            server.shutdown()
            thread.join()


class Reader:
    """A client that reads the object, compares every byte, and keeps none."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.position = 0
        self.right = True

    async def begin(self) -> None:
        """Ask, and take the head."""
        await self._stream.send_all(b"GET /mirror/large/object HTTP/1.1\r\nHost: server\r\n\r\n")
        received = b""
        while b"\r\n\r\n" not in received:
            received += await self._stream.receive_some(1)
        self.right = received.startswith(b"HTTP/1.1 200 ")

    async def read_to(self, stop: int) -> None:
        """Read up to `stop`, and see whether it is right."""
        while self.right and self.position < stop:
            piece = await self._stream.receive_some(min(MIB // 4, stop - self.position))
            begin = self.position % len(CYCLE)
            self.right = bool(piece) and TWICE[begin : begin + len(piece)] == piece
            self.position += len(piece)


async def crowd(url: str) -> list[bool]:
    """Have few clients that read to the end, beside many that take the start and hold on to their answer."""
    host, port = urlsplit(url).netloc.split(":")
    right: list[bool] = []
    async with AsyncExitStack() as held:

        async def read(stop: int) -> None:
            stream = await held.enter_async_context(await trio.open_tcp_stream(host, int(port)))
            reader = Reader(stream)
            await reader.begin()
            await reader.read_to(stop)
            right.append(reader.right)

        with trio.fail_after(PATIENCE_SECONDS):
            async with trio.open_nursery() as clients:
                for number in range(CLIENTS):
                    clients.start_soon(read, SIZE_BYTES if number < READERS else TASTE_BYTES)
    return right


def peak_rss_bytes(process: subprocess.Popen[str]) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text("ascii")
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) * 1024


@pytest.mark.usefixtures("zipapp")
def test_a_crowd_on_one_large_object_is_one_download_in_little_memory(tmp_path: Path) -> None:
    with running_origin() as (origin, gets):
        settings = {
            "JULIA_PKG_SERVER_STORAGE_SERVERS": "http://127.0.0.1:1",
            "PKGSERVER_MIRROR_BUCKETS": f"large={origin}",
            "PKGSERVER_READ_STALL_SECONDS": str(PATIENCE_SECONDS),
        }
        with running_zipapp(tmp_path, settings) as server:
            right = trio.run(crowd, server.url)
            assert right == [True] * CLIENTS
            assert [path for path in gets if "object" in path] == ["/object"]
            assert peak_rss_bytes(server.process) < MOST_RSS_BYTES

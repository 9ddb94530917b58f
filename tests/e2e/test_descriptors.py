"""The zipapp with few descriptors, or none left: it refuses new connections, and nothing else."""

from __future__ import annotations

import json
import resource
import socket
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from tests.e2e.client import Client
from tests.integration.storage import storage_server
from tests.integration.zipapp import running_zipapp

from pkgserver_trio.demo.sample import build_sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.integration.zipapp import RunningZipapp

    from pkgserver_trio.demo.sample import Sample

LIMIT = 200
DOWNLOADS = 4
#: (LIMIT - 64 - DOWNLOADS * 3) / 2, as `connections_within` has it.
ROOM = 62


@pytest.fixture
def sample() -> Sample:
    return build_sample()


@pytest.fixture
def settings(unpacked: Path, sample: Sample) -> Iterator[Mapping[str, str]]:
    with storage_server(sample) as (url, _):
        yield {
            "SHIV_ROOT": str(unpacked),
            "JULIA_PKG_SERVER_STORAGE_SERVERS": url,
            "PKGSERVER_MAX_DOWNLOADS": str(DOWNLOADS),
            "PKGSERVER_REQUEST_HEAD_SECONDS": "60",
        }


def connect(stack: ExitStack, server: RunningZipapp) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return stack.enter_context(socket.create_connection((host, int(port)), timeout=20))


def ask(connection: socket.socket, path: str) -> bytes:
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    return b"".join(iter(lambda: connection.recv(65536), b""))


def log_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


def test_a_low_limit_leaves_room_for_files_and_downloads_however_many_connect(
    zipapp: Path, tmp_path: Path, settings: Mapping[str, str], sample: Sample
) -> None:
    limited = tmp_path / "python"
    limited.write_text(f'#!/bin/sh\nulimit -n {LIMIT}\nexec {sys.executable} "$@"\n')
    limited.chmod(0o755)
    with running_zipapp(tmp_path, settings, python=str(limited)) as server, ExitStack() as stack:
        for _ in range(3 * LIMIT):
            connect(stack, server)
        for path, body in sample.files.items():  # downloads, while all connections are taken
            if not path.startswith("/registries"):
                assert ask(connect(stack, server), path).endswith(body)
        busy = [connect(stack, server) for _ in range(ROOM)]
        for connection in busy:  # all at one time: a connection and a file each
            connection.sendall(f"GET {sample.artifact.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        for connection in busy:
            assert connection.recv(12) == b"HTTP/1.1 200"
    log = log_of(tmp_path)
    (lowered,) = (line for line in log if str(line["event"]).startswith("fewer connections"))
    assert (lowered["connections"], lowered["configured"], lowered["open_files"]) == (ROOM, 10_000, LIMIT)
    assert not [line for line in log if line["event"] == "no connection can be accepted"]


def test_without_any_descriptor_open_connections_go_on_and_all_is_well_afterwards(
    zipapp: Path, tmp_path: Path, settings: Mapping[str, str], sample: Sample
) -> None:
    path, body = sample.artifact.path, sample.files[sample.artifact.path]
    with running_zipapp(tmp_path, settings) as server, ExitStack() as stack:
        pid = server.process.pid
        client = Client(server.url)
        while client.ask(path)[1]["X-Cache-Miss"]:  # until it is committed
            pass
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (0, before[1]))  # what is open stays open
        waiting = connect(stack, server)
        waiting.sendall(b"GET /robots.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        for _ in range(20):
            assert client.ask("/healthz")[0] == 200
            status, headers, _ = client.ask(path)
            assert (status, headers["Cache-Control"]) == (503, "no-store")
            assert headers["Retry-After"]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        assert waiting.recv(12) == b"HTTP/1.1 200"
        status, headers, got = client.ask(path)
        assert (status, got, headers["X-Cache-Miss"]) == (200, body, None)
        client.close()
    told = [line for line in log_of(tmp_path) if line["event"] == "no connection can be accepted"]
    assert len(told) == 1
    assert list((tmp_path / "store" / "quarantine").rglob("*")) == []

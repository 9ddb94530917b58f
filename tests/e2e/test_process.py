"""The zipapp as a process: signals, exit codes, and a start with nothing upstream."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.e2e.client import Client
from tests.integration.storage import storage_server
from tests.integration.zipapp import running_zipapp

from pkgserver_trio.demo.sample import build_sample

if TYPE_CHECKING:
    from pathlib import Path

UNKNOWN = "/artifact/" + "0" * 40


def start(zipapp: Path, unpacked: Path, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "SHIV_ROOT": str(unpacked),
        "JULIA_PKG_SERVER_STORAGE_ROOT": str(folder / "store"),
        **settings,
    }
    command = [sys.executable, str(zipapp)]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=30)


def test_wrong_setting_stops_the_start_with_one_line_that_names_it(
    zipapp: Path, unpacked: Path, tmp_path: Path
) -> None:
    done = start(zipapp, unpacked, tmp_path, PKGSERVER_KEEP_FREE="much")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    for part in ("PKGSERVER_KEEP_FREE", "'much'", "a size"):
        assert part in done.stderr


def test_port_in_use_stops_the_start(zipapp: Path, unpacked: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = start(zipapp, unpacked, tmp_path, JULIA_PKG_SERVER=f"127.0.0.1:{port}", PKGSERVER_LOG_FORMAT="json")
    assert done.returncode == 1
    assert str(port) in json.loads(done.stderr.splitlines()[-1])["reason"]


def test_server_with_nothing_upstream_starts_says_so_once_and_tells_why_it_is_not_ready(
    zipapp: Path, unpacked: Path, tmp_path: Path
) -> None:
    nothing = replace(build_sample(), files={})
    with storage_server(nothing) as (nowhere, requests):
        settings = {
            "SHIV_ROOT": str(unpacked),
            "JULIA_PKG_SERVER_STORAGE_SERVERS": nowhere,
            "JULIA_PKG_SERVER_REGISTRY_UPDATE_PERIOD": "0.1",
        }
        with running_zipapp(tmp_path, settings) as server:
            client = Client(server.url)
            while requests.count("GET /registries.eager") < 5:  # several turns of the registry loop
                assert client.ask("/readyz")[0] == 503
            assert client.ask("/registries")[0] == 503
            _, _, body = client.ask("/readyz")
            client.close()
    assert json.loads(body)["registries"]["eager"]["storage_servers"][nowhere]["error"] == "status 404"
    log = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    told = [line for line in log if line["event"] == "storage server gives no registries"]
    assert {line["flavor"] for line in told} == {"eager", "conservative"}
    assert len(told) == 2, "one line for each list of a server, however many turns"


def test_second_signal_ends_at_once(zipapp: Path, unpacked: Path, tmp_path: Path) -> None:
    settings = {"SHIV_ROOT": str(unpacked), "PKGSERVER_GRACEFUL_SECONDS": "60", "PKGSERVER_DRAIN_SECONDS": "60"}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings["JULIA_PKG_SERVER_STORAGE_SERVERS"] = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with running_zipapp(tmp_path, settings | {"PKGSERVER_HEAD_SECONDS": "60"}, exit_code=130) as server:
            host, port = server.url.removeprefix("http://").split(":")
            with socket.create_connection((host, int(port))) as client:
                client.sendall(f"GET {UNKNOWN} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                silent.accept()[0].close()
                server.process.send_signal(signal.SIGTERM)
                assert server.process.stderr is not None
                while '"stopping"' not in server.process.stderr.readline():
                    pass
                server.process.send_signal(signal.SIGINT)
                assert server.process.wait(timeout=10) == 130

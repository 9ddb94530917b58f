"""The zipapp as a process: signals, exit codes, and a start with nothing upstream."""

from __future__ import annotations

import contextlib
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
    assert str(port) in json.loads(done.stdout.splitlines()[-1])["reason"]


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


def test_log_is_in_its_file_too_and_signals_ask_for_a_new_one_and_for_a_report(
    zipapp: Path, unpacked: Path, tmp_path: Path
) -> None:
    with storage_server(build_sample()) as (upstream, _):
        settings = {"SHIV_ROOT": str(unpacked), "JULIA_PKG_SERVER_STORAGE_SERVERS": upstream}
        with running_zipapp(tmp_path, settings) as server:
            output = server.process.stdout
            assert output is not None
            logs = tmp_path / "store" / "logs"
            while not (files := list(logs.glob("*-pkgserver.log"))):
                pass
            files[0].rename(logs / "moved")
            server.process.send_signal(signal.SIGHUP)
            while '"log opened anew"' not in output.readline():
                pass
            server.process.send_signal(signal.SIGUSR1)
            while '"task"' not in output.readline():
                pass
    printed = (tmp_path / "log").read_text()
    assert '"serving"' in (logs / "moved").read_text()
    anew = "".join(file.read_text() for file in logs.glob("*-pkgserver.log"))
    assert '"stopping"' in anew
    assert anew.splitlines()[-1] == printed.splitlines()[-1]


def test_signals_that_come_too_late_do_not_spoil_the_end(zipapp: Path, unpacked: Path, tmp_path: Path) -> None:
    with running_zipapp(tmp_path, {"SHIV_ROOT": str(unpacked)}) as server:  # it must end with exit code 0
        server.process.terminate()
        while server.process.poll() is None:
            server.process.send_signal(signal.SIGHUP)
            server.process.send_signal(signal.SIGUSR1)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.process.wait(0.001)


def test_log_folder_that_cannot_be_used_stops_nothing(zipapp: Path, unpacked: Path, tmp_path: Path) -> None:
    settings = {"SHIV_ROOT": str(unpacked), "JULIA_PKG_SERVER_LOGS_DIR": "/dev/null/logs"}
    with running_zipapp(tmp_path, settings) as server:
        client = Client(server.url)
        assert client.ask("/healthz")[0] == 200
        client.close()
    log = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line["to"] for line in log if line["event"] == "the log cannot be written"] == ["/dev/null/logs"]


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
                assert server.process.stdout is not None
                while '"stopping"' not in server.process.stdout.readline():
                    pass
                server.process.send_signal(signal.SIGINT)
                assert server.process.wait(timeout=10) == 130

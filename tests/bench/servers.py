"""The servers under load: the zipapp, and an nginx on the same files, which is its storage server, too."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.integration.nginx import LOG_FORMAT, documented
from tests.integration.zipapp import PYZ

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONFIGURATION: Final = """
daemon off;
user {user};
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {log_format}
    log_format storage '$request_method $uri';
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    root {root};
    server {{ listen 127.0.0.1:{plain}; }}
    server {{ listen 127.0.0.1:{logged}; access_log {folder}/hits.log pkgserver_hits buffer=64k flush=1s; }}
    server {{ listen 127.0.0.1:{storage}; access_log {folder}/storage.log storage; }}
}}
"""
_START_SECONDS: Final = 60
_STOP_SECONDS: Final = 30
_LOOK_SECONDS: Final = 0.005


@dataclass(frozen=True, slots=True)
class Nginx:
    """Three servers on one root: one that logs nothing, one that logs hits, and a storage server."""

    folder: Path
    plain: str
    logged: str
    storage: str

    def storage_requests(self, path: str) -> dict[str, int]:
        """Return how often the storage server was asked for a path, by method."""
        methods = [line.split()[0] for line in (self.folder / "storage.log").read_text().splitlines() if path in line]
        return {method: methods.count(method) for method in sorted(set(methods))}


@dataclass(frozen=True, slots=True)
class Ours:
    """A running server; `start_seconds` is how long it took until its first 200."""

    url: str
    pid: int
    start_seconds: float

    def memory_mib(self, field: str = "VmRSS") -> float:
        """Return what it holds in memory now, or (`VmHWM`) has held at most."""
        status = Path("/proc", str(self.pid), "status").read_text()
        return int(status.partition(f"{field}:")[2].split()[0]) / 1024


@contextmanager
def running_nginx(folder: Path, root: Path) -> Iterator[Nginx]:
    """Run an nginx with one worker on the files below `root`."""
    folder.mkdir()
    plain, logged, storage = _free_ports(3)
    ports = {"plain": plain, "logged": logged, "storage": storage}
    log_format = documented(LOG_FORMAT)
    text = _CONFIGURATION.format(folder=folder, root=root, user=getpass.getuser(), log_format=log_format, **ports)
    (folder / "nginx.conf").write_text(text)
    with subprocess.Popen(["nginx", "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]) as process:
        try:
            _wait_until_answering(f"http://127.0.0.1:{plain}/", process)
            yield Nginx(folder, *(f"http://127.0.0.1:{port}" for port in (plain, logged, storage)))
        finally:
            _end(process)


@contextmanager
def running_ours(folder: Path, storage: str, *, unpacked: Path) -> Iterator[Ours]:
    """Run the zipapp, as it is by default, on the store in `folder`; its log goes to a file there."""
    folder.mkdir(exist_ok=True)
    port = _free_ports(1)[0]
    settings = {
        "JULIA_PKG_SERVER": f"127.0.0.1:{port}",
        "JULIA_PKG_SERVER_STORAGE_ROOT": str(folder / "store"),
        "JULIA_PKG_SERVER_STORAGE_SERVERS": storage,
        "PKGSERVER_KEEP_FREE": "0",
        "PKGSERVER_ORIGIN_CHECK": "off",
        "SHIV_ROOT": str(unpacked),
        "PATH": os.environ["PATH"],
    }
    begun, url = time.perf_counter(), f"http://127.0.0.1:{port}"
    with (
        (folder / "server.log").open("ab") as log,
        subprocess.Popen([sys.executable, str(PYZ)], env=settings, stdout=log, stderr=log, cwd=folder) as process,
    ):
        try:
            _wait_until_answering(f"{url}/healthz", process)
            yield Ours(url, process.pid, time.perf_counter() - begun)
        finally:
            _end(process)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _wait_until_answering(url: str, process: subprocess.Popen[bytes]) -> None:
    """Return at the first answer of any status. Raises TimeoutError."""
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=_START_SECONDS).close()  # noqa: S310 # a loopback address
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(_LOOK_SECONDS)
        else:
            return
    raise TimeoutError(f"{process.args!r} does not answer at {url}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()

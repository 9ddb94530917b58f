"""kill -9 in the middle of downloads, commits, evictions and hits: what the next start finds is whole, or nothing."""

from __future__ import annotations

import http.client
import random
import signal
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from tests.e2e.client import Client
from tests.integration.storage import storage_server
from tests.integration.zipapp import running_zipapp
from tests.web.tarball import build_tarball, unpacked_tree_hash

from pkgserver_trio.demo.sample import build_sample

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KILLS = 50
CLIENTS = 4
FILES = {made.path: made.body for made in map(build_tarball, range(1_000, 200_000, 5_000))}  # 4 MB in all
SETTINGS = {"PKGSERVER_MAX_CACHE": "1MB", "JULIA_PKG_SERVER_REGISTRY_UPDATE_PERIOD": "600"}
#: No server that runs takes so long to send what a client waits for here.
PATIENCE_SECONDS = 30


class Load:
    """Clients that fetch at random; ``enough`` is set once they have received so many bytes in all."""

    def __init__(self, url: str, seed: int, enough_bytes: int) -> None:
        self.enough = threading.Event()
        self.wrong: list[str] = []
        self._left = enough_bytes
        self._address = urlsplit(url).netloc
        self._counting = threading.Lock()
        choices = [random.Random(f"{seed} {client}") for client in range(CLIENTS)]  # noqa: S311 # nothing is to be kept secret
        self._clients = [threading.Thread(target=self._fetch, args=(choice,)) for choice in choices]

    def __enter__(self) -> Self:
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *_error: object) -> None:
        for client in self._clients:
            client.join()

    def _fetch(self, choice: random.Random) -> None:
        """Ask until the server is gone."""
        connection = http.client.HTTPConnection(self._address, timeout=PATIENCE_SECONDS)
        try:
            while self._ask(connection, choice.choice(list(FILES))):
                pass
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()

    def _ask(self, connection: http.client.HTTPConnection, path: str) -> bool:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = b""
        while piece := answer.read(20_000):
            body += piece
            self._count(len(piece))
        if len(body) < int(answer.headers["Content-Length"]):
            return False
        if (answer.status, body) != (200, FILES[path]):
            self.wrong.append(f"{answer.status} {path}")
        return True

    def _count(self, size: int) -> None:
        with self._counting:
            self._left -= size
            if self._left <= 0:
                self.enough.set()


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def kill_under_load(folder: Path, settings: Mapping[str, str], seed: int) -> int:
    """Start the server, check that it cleaned up, load it, kill it; return how many files it was writing."""
    instant = random.Random(seed).randrange(1, 1_500_000)  # noqa: S311 # nothing is to be kept secret
    with running_zipapp(folder, settings, exit_code=-signal.SIGKILL) as server:
        assert files_in(folder / "store" / "temp") == []
        with Load(server.url, seed, instant) as load:
            try:
                assert load.enough.wait(PATIENCE_SECONDS)
            finally:
                server.process.kill()
        assert load.wrong == []
    assert_all_are_right(folder / "store" / "cache")
    return len(files_in(folder / "store" / "temp"))


def assert_all_are_right(cache: Path) -> None:
    for path in files_in(cache):
        assert unpacked_tree_hash(path) == path.name


def test_fifty_kills_under_load_leave_whole_files_and_no_rubbish(zipapp: Path, unpacked: Path, tmp_path: Path) -> None:
    with storage_server(replace(build_sample(), files=FILES)) as (upstream, _):
        settings = {"SHIV_ROOT": str(unpacked), "JULIA_PKG_SERVER_STORAGE_SERVERS": upstream, **SETTINGS}
        unfinished = [kill_under_load(tmp_path, settings, seed) for seed in range(KILLS)]
        assert any(unfinished), "no kill came in the middle of a download"
        with running_zipapp(tmp_path, settings) as server:
            assert files_in(tmp_path / "store" / "temp") == []
            client = Client(server.url)
            for path, body in FILES.items():
                assert client.ask(path)[::2] == (200, body)
            client.close()
    assert_all_are_right(tmp_path / "store" / "cache")
    assert files_in(tmp_path / "store" / "temp") == []

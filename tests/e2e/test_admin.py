"""The zipapp's `/admin` as an operator meets it: a log at one level, watched at another."""

from __future__ import annotations

import base64
import hashlib
import http.client
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.e2e.client import Client
from tests.integration.storage import storage_server
from tests.integration.zipapp import running_zipapp

from pkgserver_trio.demo.sample import build_sample

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "s3cr3t"
AUTHORIZATION = {"Authorization": "Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode()}
UNKNOWN = "/artifact/" + "0" * 40


def test_debug_lines_are_watched_that_the_log_does_not_have(zipapp: Path, unpacked: Path, tmp_path: Path) -> None:
    with storage_server(replace(build_sample(), files={})) as (nowhere, _):
        settings = {
            "SHIV_ROOT": str(unpacked),
            "JULIA_PKG_SERVER_STORAGE_SERVERS": nowhere,
            "JULIA_PKG_SERVER_ADMIN_TOKEN_SHA256": hashlib.sha256(PASSWORD.encode()).hexdigest(),
        }
        with running_zipapp(tmp_path, settings) as server:
            watcher = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=20)
            watcher.request("GET", "/admin/logs?level=debug&color=false", headers=AUTHORIZATION)
            log = watcher.getresponse()
            client = Client(server.url)
            assert client.ask(UNKNOWN)[0] == 404
            line = log.readline()
            while b"not downloaded" not in line:
                line = log.readline()
            assert UNKNOWN[1:].encode() in line
            client.close()
            server.process.terminate()
            assert b"stopping" in log.read()  # whole: it ends as a chunked body has to
            assert server.process.wait(timeout=20) == 0
            watcher.close()
    own = (tmp_path / "log").read_text()
    assert "the log is watched" in own
    assert "not downloaded" not in own

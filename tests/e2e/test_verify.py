"""`verify` of the zipapp, alone and beside a running server."""

from __future__ import annotations

import gzip
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from tests.disks import rot
from tests.e2e.client import Client
from tests.integration.storage import storage_server
from tests.integration.zipapp import running_zipapp
from tests.lofts import files_in, tarball
from tests.unit.tarballs import header

from pkgserver_trio.demo.sample import build_sample

if TYPE_CHECKING:
    from pathlib import Path

SAMPLE = build_sample()
ARTIFACT = SAMPLE.artifact.path
SETTINGS = {"JULIA_PKG_SERVER_REGISTRY_UPDATE_PERIOD": "0.1"}


def command(zipapp: Path, root: Path, *options: str) -> list[str]:
    return [sys.executable, str(zipapp), "--storage-root", str(root), "verify", *options]


def environment(unpacked: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "SHIV_ROOT": str(unpacked)}


def verify(zipapp: Path, unpacked: Path, root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(zipapp, root, *options),
        env=environment(unpacked),
        cwd=root.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def get_until_kept(client: Client, path: str) -> None:
    """Ask until the answer is a hit: right each time, and safely on disk in the end."""
    missed: str | None = "miss"
    while missed:
        status, headers, body = client.ask(path)
        assert (status, body) == (200, SAMPLE.files[path])
        missed = headers["X-Cache-Miss"]


def remembered(root: Path) -> set[str]:
    with closing(sqlite3.connect(root / "verified.sqlite")) as database:
        return {"/" + name for (name,) in database.execute("SELECT name FROM verified")}


def test_a_running_server_notices_a_repair_and_fetches_again(zipapp: Path, unpacked: Path, tmp_path: Path) -> None:
    root = tmp_path / "store"
    with storage_server(SAMPLE) as (upstream, requests):
        settings = {**SETTINGS, "JULIA_PKG_SERVER_STORAGE_SERVERS": upstream, "SHIV_ROOT": str(unpacked)}
        with running_zipapp(tmp_path, settings) as server:
            client = Client(server.url)
            paths = [ARTIFACT, *(package.path for package in SAMPLE.packages)]
            for path in paths:
                get_until_kept(client, path)
            rot(root / "cache" / ARTIFACT[1:])
            unfinished = root / "temp" / "unfinished"
            unfinished.write_bytes(b"of a download")

            done = verify(zipapp, unpacked, root, "--repair")
            assert done.returncode == 1, done.stderr
            assert done.stdout.startswith(f"wrong, moved to quarantine: {ARTIFACT[1:]}: ")
            assert files_in(root / "quarantine") == {ARTIFACT[1:]}
            assert unfinished.exists()

            status, headers, body = client.ask(ARTIFACT)
            assert (status, headers["X-Cache-Miss"], body) == (200, "miss", SAMPLE.files[ARTIFACT])
            for path in paths:
                get_until_kept(client, path)
            assert [requests.count(f"GET {path}") for path in paths] == [2, *[1] * len(SAMPLE.packages)]
            assert remembered(root) >= set(paths)
            assert verify(zipapp, unpacked, root).returncode == 0
            client.close()


def test_an_inherited_cache_is_repaired_before_its_first_server(zipapp: Path, unpacked: Path, tmp_path: Path) -> None:
    root = tmp_path / "store"
    for path, body in SAMPLE.files.items():
        if path.count("/") > 1:  # a resource, not a list of registries
            (root / "cache" / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            (root / "cache" / path[1:]).write_bytes(body)
    (root / "cache" / ARTIFACT[1:]).write_bytes(b"<html>busy</html>")
    (root / "cache" / "artifact" / "README").write_bytes(b"an operator's")

    done = verify(zipapp, unpacked, root)
    assert (done.returncode, files_in(root)) == (1, {f"cache/{name}" for name in files_in(root / "cache")})
    assert f"wrong: {ARTIFACT[1:]}: no tarball: " in done.stdout
    assert "unknown, left alone: artifact/README" in done.stdout

    assert verify(zipapp, unpacked, root, "--repair").returncode == 1
    right = {path for path in SAMPLE.files if path.count("/") > 1} - {ARTIFACT}
    assert remembered(root) == right
    assert files_in(root / "quarantine") == {ARTIFACT[1:]}
    assert verify(zipapp, unpacked, root, "--repair").returncode == 0


def test_ctrl_c_ends_it_with_exit_code_130(zipapp: Path, unpacked: Path, tmp_path: Path) -> None:
    cache = tmp_path / "store" / "cache" / "artifact"
    cache.mkdir(parents=True)
    zeros = gzip.compress(bytes(10_000_000), compresslevel=1)
    members = 800  # more than 8 GiB would not fit into the 11 digits of a header
    long_work = gzip.compress(header(b"zeros", size=b"%011o\0" % (members * 10_000_000))) + zeros * members
    (cache / ("0" * 40)).write_bytes(long_work)
    (cache / "README").write_bytes(b"told at once")
    (cache / tarball("a").resource.tree_hash).write_bytes(b"wrong")
    with subprocess.Popen(
        command(zipapp, tmp_path / "store", "--repair"),
        env=environment(unpacked),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "verified" not in out
    assert "Traceback" not in err
    assert (cache / ("0" * 40)).exists()

"""What nginx writes down: hits for the servers, all requests for the operator, and no file for ever."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
import trio
from tests.deployment.front_end.conftest import SAMPLE, address, front_before, stack_of, upstreams
from tests.deployment.front_end.running import CONFIGURATION
from tests.integration.nginx import LOG_FORMAT, documented
from tests.web.site import until

from pkgserver_trio.hits.lines import parse_hits
from pkgserver_trio.statistics import Outcome

if TYPE_CHECKING:
    from pathlib import Path

    from tests.deployment.front_end.conftest import Stack

pytestmark = pytest.mark.integration

ARTIFACT, PACKAGE = SAMPLE.artifact.path, SAMPLE.packages[0].path
ACCESS_LOG = "access_pkg.example.org.log"
#: The fields of the original, each in its place.
LINE = re.compile(
    r'127\.0\.0\.1 \[[^\]]+\] "GET (?P<path>\S+) HTTP/1\.1" (?P<status>\d{3}) (?P<bytes>\d+) "agent" \d+\.\d{3} '
    r'1\.10\.4 x86_64-linux-gnu "CI=t;TRAVIS=n" false "https://pkg\.example\.org" "(?P<name>[^"]+)" "(?P<miss>[^"]+)"'
)
JULIA = {
    "User-Agent": "agent",
    "Julia-Version": "1.10.4",
    "Julia-System": "x86_64-linux-gnu",
    "Julia-CI-Variables": "CI=t;TRAVIS=n",
    "Julia-Interactive": "false",
    "Julia-Pkg-Server": "https://pkg.example.org",
}


def rotate(folder: Path, pid_file: Path) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(CONFIGURATION / "rotate-logs"), str(folder), str(pid_file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_format_of_hits_is_the_documented_one() -> None:
    assert f"    {documented(LOG_FORMAT)}\n" in (CONFIGURATION / "nginx.conf").read_text("utf-8")


async def test_a_hit_is_in_the_log_of_its_store(stack: Stack) -> None:
    await stack.sites[0].warm(ARTIFACT)
    await stack.sites[1].warm(PACKAGE)
    for path in (ARTIFACT, PACKAGE):
        assert (await stack.front.get(path)).status_code == 200
    await stack.front.get(ARTIFACT, headers={"Range": f"bytes={len(SAMPLE.files[ARTIFACT])}-"})
    await stack.front.get(SAMPLE.packages[1].path)
    await stack.front.get("/meta")
    logs = [stack.front_end.folder / "hits" / number / "hits.log" for number in ("1", "2")]
    await until(lambda: all(log.stat().st_size for log in logs))
    hits = [parse_hits(log.read_bytes()) for log in logs]
    assert [[hit.resource.path for hit in harvest.hits] for harvest in hits] == [[ARTIFACT], [PACKAGE]]
    assert [harvest.garbage for harvest in hits] == [[], []]


async def test_the_servers_count_the_hits_of_their_stores(nursery: trio.Nursery, tmp_path: Path) -> None:
    logs = tmp_path / "front" / "hits" / "1" / "hits.log"
    async with stack_of(nursery, tmp_path, PKGSERVER_HIT_LOGS=str(logs)) as stack:
        await stack.sites[0].warm(ARTIFACT)
        statistics = stack.sites[0].library.statistics
        before = statistics.total(Outcome.HIT)
        await stack.front.get(ARTIFACT)
        await until(lambda: statistics.total(Outcome.HIT) == before + 1)


async def test_a_line_has_the_fields_of_the_original(stack: Stack) -> None:
    await stack.sites[0].warm(ARTIFACT)
    for path in (ARTIFACT, PACKAGE):
        assert (await stack.front.get(path, headers={**JULIA, "X-Request-ID": "this"})).status_code == 200
    log = stack.front_end.logs / ACCESS_LOG
    await until(lambda: log.read_bytes().count(b"\n") == 2)
    lines = [LINE.fullmatch(line) for line in log.read_text("utf-8").splitlines()]
    told = [line and (line["path"], line["status"], int(line["bytes"]), line["name"], line["miss"]) for line in lines]
    size = {path: len(SAMPLE.files[path]) for path in (ARTIFACT, PACKAGE)}
    assert told == [
        (ARTIFACT, "200", size[ARTIFACT], "this", "-"),
        (PACKAGE, "200", size[PACKAGE], "this", "miss"),
    ]


async def test_no_line_is_lost_or_cut_when_the_logs_are_rotated(tmp_path: Path) -> None:
    asked = 0
    async with (
        upstreams({}) as servers,
        front_before(tmp_path, *map(address, servers)) as (ours, front),
        trio.open_nursery() as nursery,
    ):

        async def ask_on() -> None:
            nonlocal asked
            while True:
                await front.get(f"/{asked}")
                asked += 1

        nursery.start_soon(ask_on)
        await until(lambda: asked > 50)
        assert rotate(ours.logs, ours.folder / "tmp" / "nginx.pid").returncode == 0
        await until((ours.logs / ACCESS_LOG).exists)
        before = asked
        await until(lambda: asked > before + 50)
        nursery.cancel_scope.cancel()
    renamed = [path for path in ours.logs.iterdir() if re.fullmatch(rf"{re.escape(ACCESS_LOG)}-\d{{10}}", path.name)]
    texts = [path.read_text("utf-8") for path in (*renamed, ours.logs / ACCESS_LOG)]
    assert len(texts) == 2
    assert all(texts)
    paths = re.findall(r'"GET /(\d+) HTTP/1\.1" 404 ', "".join(texts))
    assert {int(path) for path in paths} >= set(range(asked))
    assert "".join(texts).count("\n") == len(paths) in {asked, asked + 1}


def test_old_logs_are_compressed_and_the_oldest_removed(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        (tmp_path / "pid").write_text(str(process.pid))
        days = 86400
        ages = {"2026010100": 0, "2026010101.gz": 6 * days, "2026010102.gz": 8 * days}
        for suffix, age in ages.items():
            path = tmp_path / f"{ACCESS_LOG}-{suffix}"
            path.write_bytes(b"a line\n")
            past = path.stat().st_mtime - age
            os.utime(path, (past, past))
        (tmp_path / ACCESS_LOG).write_bytes(b"")
        (tmp_path / "other.log").write_bytes(b"a line\n")
        rotated = rotate(tmp_path, tmp_path / "pid")
        process.wait(timeout=20)
    assert (rotated.returncode, rotated.stderr) == (0, "")
    left = {path.name for path in tmp_path.iterdir()} - {"pid"}
    expected = {ACCESS_LOG, f"{ACCESS_LOG}-2026010100.gz", f"{ACCESS_LOG}-2026010101.gz", "other.log"}
    assert left == expected
    assert gzip.decompress((tmp_path / f"{ACCESS_LOG}-2026010100.gz").read_bytes()) == b"a line\n"


def test_a_second_rotation_within_the_hour_overwrites_nothing(tmp_path: Path) -> None:
    for text in ("first\n", "second\n"):
        with subprocess.Popen(["sleep", "60"]) as process:
            (tmp_path / "pid").write_text(str(process.pid))
            (tmp_path / ACCESS_LOG).write_text(text)
            assert rotate(tmp_path, tmp_path / "pid").returncode == 0
            process.wait(timeout=20)
    texts = {path.read_text() for path in tmp_path.glob("access_*")}
    assert texts == {"first\n", "second\n"}
    assert shutil.which("gzip")

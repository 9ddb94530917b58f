"""`make bench`: figures of this server, beside those of nginx on the same files and machine at the same time.

`BENCH_SECONDS` is how long each kind of hit is measured (5), `BENCH_FILES` how many files the large index has.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import trio
from tests.bench.load import fetch, hit
from tests.bench.million import FILES
from tests.bench.samples import Sample, write_sample
from tests.bench.servers import running_nginx, running_ours
from tests.bench.table import Figure, render

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.servers import Nginx, Ours

_FOLDER: Final = Path("build/bench").absolute()
_NEEDED: Final = {"wrk": "wrk", "nginx": "nginx-light"}
_MEGA: Final = 1_000_000
_TURNS: Final = 3
#: Title, size, and the least ratio to nginx.
_HITS: Final = (("1.5 KB", 1500, 0.15), ("100 KB", 100_000, 0.40), ("100 MB", 100 * _MEGA, 0.9))
_IDLE_SECONDS: Final = 2


def main() -> int:
    """Measure everything, and print it; return 2 where a program is missing."""
    missing = {program: package for program, package in _NEEDED.items() if shutil.which(program) is None}
    for program, package in missing.items():
        sys.stderr.write(f"bench: {program} is needed: apt-get install {package}\n")
    if missing:
        return 2
    work = _FOLDER / "work"
    shutil.rmtree(work, ignore_errors=True)
    (work / "files").mkdir(parents=True)
    machine = _machine()
    sys.stdout.write(f"{machine}\n\n{render(list(_figures(work)))}")
    return 0


def _figures(work: Path) -> Iterator[Figure]:
    with running_nginx(work / "nginx", work / "files") as nginx:
        for part in (_starts(work, nginx), _hits(work, nginx), _misses(work, nginx), _hit_logs(), _many_files()):
            for figure in part:
                sys.stderr.write(f"{figure.name}: {figure.ours:.4g} {figure.unit}\n")
                yield figure


def _starts(work: Path, nginx: Nginx) -> Iterator[Figure]:
    times, idle_mib = [], 0.0
    for turn in range(_TURNS + 1):
        with running_ours(work / f"start {turn}", nginx.storage, unpacked=work / "unpacked") as ours:
            times.append(ours.start_seconds)
            time.sleep(_IDLE_SECONDS)
            idle_mib = ours.memory_mib()
    yield Figure(name="start to the first 200, first unpack", ours=times[0], unit="s", most=1.7)
    yield Figure(name="start to the first 200, warm", ours=median(times[1:]), unit="s", most=0.4)
    yield Figure(name="memory, idle", ours=idle_mib, unit="MiB", most=60)


def _hits(work: Path, nginx: Nginx) -> Iterator[Figure]:
    seconds = int(os.environ.get("BENCH_SECONDS") or "5")
    with running_ours(work / "hits", nginx.storage, unpacked=work / "unpacked") as ours:
        for title, size, least in _HITS:
            sample = write_sample(work / "files", title, size)
            trio.run(_fetch_once, ours, sample)
            for connections in (16, 64):
                rate, other = (
                    hit(f"{url}{sample.path}", connections=connections, seconds=seconds)
                    for url in (ours.url, nginx.plain)
                )
                name = f"hit, {title}, {connections} connections"
                if size < _MEGA:
                    yield Figure(name=name, ours=rate.requests, nginx=other.requests, unit="per s", least=least)
                else:
                    yield Figure(name=name, ours=rate.megabytes, nginx=other.megabytes, unit="MB/s", least=least)
    logged, plain = (
        hit(f"{url}{sample.path}", connections=64, seconds=seconds)
        for sample in [write_sample(work / "files", *_HITS[0][:2])]
        for url in (nginx.logged, nginx.plain)
    )
    name = f"hit by nginx with its hit log, {_HITS[0][0]}, 64 connections"
    yield Figure(name=name, ours=logged.requests, nginx=plain.requests, unit="per s", least=0.95)


async def _fetch_once(ours: Ours, sample: Sample) -> None:
    await fetch(ours.url, sample, clients=1)


def _misses(work: Path, nginx: Nginx) -> Iterator[Figure]:
    large = write_sample(work / "files", "miss", 93 * _MEGA)
    shared = write_sample(work / "files", "shared miss", 10 * _MEGA)
    rates, waits = [], []
    for turn in range(_TURNS):
        with running_ours(work / f"miss {turn}", nginx.storage, unpacked=work / "unpacked") as ours:
            arrival = trio.run(lambda: fetch(ours.url, large, clients=1))
            rates.append(large.size_bytes / _MEGA / arrival.seconds)
            waits.append(1000 * arrival.first_seconds)
    yield Figure(name="verified miss, 93 MB", ours=median(rates), unit="MB/s", least=80)
    yield Figure(name="its first byte, after the request", ours=median(waits), unit="ms", most=20)
    with running_ours(work / "shared", nginx.storage, unpacked=work / "unpacked") as ours:
        arrival = trio.run(lambda: fetch(ours.url, shared, clients=100))
        peak_mib = ours.memory_mib("VmHWM")
    rate = 100 * shared.size_bytes / _MEGA / arrival.seconds
    asked = nginx.storage_requests(shared.path)
    yield Figure(name="100 clients on one miss of 10 MB, in all", ours=rate, unit="MB/s", least=1000)
    yield Figure(name="its downloads", ours=asked.get("GET", 0), unit="GETs", most=1)
    yield Figure(name="its memory, at most", ours=peak_mib, unit="MiB", most=100)


def _hit_logs() -> Iterator[Figure]:
    command = [sys.executable, "-m", "tests.bench.hit_logs"]
    cost = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    name = f"hit log of {cost['lines']:,} lines"
    yield Figure(name=f"{name}, CPU with hits meanwhile", ours=cost["cpu_seconds"], unit="s", most=2)
    yield Figure(name=f"{name}, 99 of 100 hits meanwhile within", ours=cost["p99_ms"], unit="ms", most=50)


def _many_files() -> Iterator[Figure]:
    files = int(os.environ.get("BENCH_FILES") or FILES)
    command = [sys.executable, "-m", "tests.bench.million", str(_FOLDER / f"{files} files"), str(files)]
    subprocess.run([*command, "--fill"], check=True)
    cost = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    name = f"index of {cost['files']:,} files"
    yield Figure(name=f"{name}, in the background", ours=cost["seconds"], unit="s", most=4)
    yield Figure(name=f"{name}, memory for it", ours=cost["rss_mib"] - cost["idle_mib"], unit="MiB", most=110)
    yield Figure(name=f"{name}, memory for it at most", ours=cost["peak_mib"] - cost["idle_mib"], unit="MiB")
    yield Figure(name=f"{name}, longest hold of the event loop", ours=1000 * cost["hold_seconds"], unit="ms", most=20)
    yield Figure(name="the same at rest", ours=1000 * cost["rest_hold_seconds"], unit="ms")
    yield Figure(name=f"{name}, cost of a hit", ours=cost["hit_us"], unit="us")


def _machine() -> str:
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in cpus if line.startswith("model name")), platform.machine())
    load, *_ = os.getloadavg()
    today = time.strftime("%Y-%m-%d")
    return f"{today}, {os.cpu_count()} x {model}, Python {platform.python_version()}, load before {load:.1f}"


if __name__ == "__main__":
    sys.exit(main())

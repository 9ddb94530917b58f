"""What 100,000 lines of a hit log cost, and what a small hit notices of it, as JSON: `python -m tests.bench.hit_logs`.

Client and server share one process and one event loop here, so the times of a hit hold the client's too.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import structlog
import trio
from tests.web.raw import connected
from tests.web.site import start_site, until

from pkgserver_trio.demo.sample import build_sample
from pkgserver_trio.resource import Kind, Resource

if TYPE_CHECKING:
    from tests.web.raw import RawClient
    from tests.web.site import Site

LINES = 100_000
TURNS = 3
PAUSE_SECONDS = 0.002
SAMPLE = build_sample()


async def hit(client: RawClient, path: str) -> float:
    """Return the seconds that one hit takes."""
    begun = time.perf_counter()
    await client.ask(path)
    head = await client.head()
    await client.exactly(int(head.headers["content-length"]))
    return time.perf_counter() - begun


async def hits_until(site: Site, finished: trio.Event) -> list[float]:
    """Return the times of hits, one after the other."""
    times = []
    async with connected(site.port) as client:
        while not finished.is_set():
            times.append(await hit(client, SAMPLE.packages[0].path))
            await trio.sleep(PAUSE_SECONDS)
    return sorted(times)


async def measure(site: Site, log: Path, lines: int) -> tuple[float, float]:
    """Return what `lines` more lines cost: seconds of CPU in all, and the 99th percentile of hits meanwhile (ms)."""
    counted, all_counted, finished = 0, trio.Event(), trio.Event()

    def count(resource: Resource, size_bytes: int) -> None:
        nonlocal counted
        counted += 1
        if counted == lines:
            all_counted.set()

    site.library._count_nginx_hit = count
    known = [Resource.parse(path) for path in SAMPLE.files]
    others = [Resource(Kind.ARTIFACT, f"{number:040x}") for number in range(10_000)]
    paths = [resource.path for resource in (*known, *others) if resource]
    times: list[float] = []

    async def load() -> None:
        times.extend(await hits_until(site, finished))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(load)
        await trio.sleep(0.5)
        cpu = time.process_time()
        with log.open("a") as file:
            file.writelines(f"1700000000.123 200 12345 GET {path}\n" for path in islice(cycle(paths), lines))
        with trio.fail_after(60):
            await all_counted.wait()
        cpu = time.process_time() - cpu
        finished.set()
    return cpu, 1000 * times[int(0.99 * (len(times) - 1))]


async def main() -> None:
    """Measure a server that reads a log, a few times, and print the medians."""
    sys.setswitchinterval(0.0005)  # as the server does
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "hits.log"
        async with trio.open_nursery() as nursery:
            site = await start_site(nursery, Path(folder) / "store", SAMPLE.files, {}, {"PKGSERVER_HIT_LOGS": str(log)})
            for path in (SAMPLE.packages[0].path, SAMPLE.artifact.path):
                await site.warm(path)
            await until(lambda: len(site.library.store.index) > 1)
            costs = [await measure(site, log, LINES) for _ in range(TURNS)]
            await site.stop()
    cpu_seconds, p99_ms = (median(cost) for cost in zip(*costs, strict=True))
    sys.stdout.write(json.dumps({"lines": LINES, "cpu_seconds": cpu_seconds, "p99_ms": p99_ms}))


if __name__ == "__main__":
    trio.run(main)

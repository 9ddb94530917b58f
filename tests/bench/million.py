"""What a store of a million files costs a server that starts: `python -m tests.bench.million FOLDER FILES [--fill]`.

A folder that was filled is used again. The files are empty: only their names and times count. They are filled by a
process of its own, which leaves no trace in the memory that is measured.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

import trio

from pkgserver_trio.resource import Kind, Resource
from pkgserver_trio.storage.disk import Disk
from pkgserver_trio.storage.store import Store
from pkgserver_trio.storage.verified import Verified

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES: Final = 1_000_000
_FILES_PER_PACKAGE: Final = 75
_ARTIFACT_SHARE: Final = 0.25
_YEAR_NS: Final = 365 * 24 * 3600 * 10**9
_NEWEST_NS: Final = 1_700_000_000 * 10**9
_TOUCHES: Final = 100_000
_BEAT_SECONDS: Final = 0.001
_REST_SECONDS: Final = 10
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Cost:
    """What it took to index a store.

    `hold_seconds` is how late the event loop was at most, `rest_hold_seconds` that in ten seconds before. Memory is
    that of the process before (`idle`), at most, and after. A hit is told from a suspect, and noted as the last use.
    """

    files: int
    seconds: float
    hold_seconds: float
    rest_hold_seconds: float
    rss_mib: float
    peak_mib: float
    idle_mib: float
    hit_us: float


def resources(count: int) -> Iterator[Resource]:
    """Yield so many resources, always the same."""
    random = Random(0)
    uuids: list[str] = []
    for number in range(count):
        tree_hash = random.randbytes(20).hex()
        if random.random() < _ARTIFACT_SHARE:
            yield Resource(Kind.ARTIFACT, tree_hash)
            continue
        if number % _FILES_PER_PACKAGE == 0 or not uuids:
            digits = random.randbytes(16).hex()
            uuids.append("-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])))
        yield Resource(Kind.PACKAGE, tree_hash, random.choice(uuids))


def fill(root: Path, count: int) -> None:
    """Make a store with so many verified files."""
    random = Random(1)
    rows: list[tuple[str, int, int, None]] = []
    for resource in resources(count):
        path = root / "cache" / resource.name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        mtime_ns = _NEWEST_NS - random.randrange(_YEAR_NS)
        os.utime(path, ns=(mtime_ns + random.randrange(_YEAR_NS), mtime_ns))
        rows.append((resource.name, 0, mtime_ns, None))
    Verified(root / "verified.sqlite").close()
    with sqlite3.connect(root / "verified.sqlite") as database:
        database.executemany("INSERT INTO verified VALUES (?, ?, ?, ?)", rows)
    database.close()


def rss_mib(field: str = "VmRSS") -> float:
    """Return what this process holds in memory, or (`VmHWM`) has held at most."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[field].split()[0]) * 1024 / _MIB


async def measure(root: Path) -> Cost:
    """Index a store as a server does."""
    sys.setswitchinterval(0.0005)  # as the server does
    store = Store(root, Disk(), Verified(root / "verified.sqlite"), keep_free_bytes=0, max_cache_bytes=None)
    idle_mib, worst = rss_mib(), 0.0
    async with trio.open_nursery() as nursery:

        async def beat() -> None:
            nonlocal worst
            while True:
                due = time.perf_counter() + _BEAT_SECONDS
                await trio.sleep(_BEAT_SECONDS)
                worst = max(worst, time.perf_counter() - due)

        nursery.start_soon(beat)
        await trio.sleep(_REST_SECONDS)
        rest, worst, begun = worst, 0.0, time.perf_counter()
        await store.scan()
        seconds = time.perf_counter() - begun
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    scanned_mib, peak_mib = rss_mib(), rss_mib("VmHWM")
    keys = [resource.pack() for resource in resources(_TOUCHES)]
    Random(2).shuffle(keys)
    begun = time.perf_counter()
    for number, key in enumerate(keys):
        store.index.trusts(key)
        store.index.touch(key, number)
    hit_us = (time.perf_counter() - begun) / len(keys) * 1e6
    return Cost(len(store.index), seconds, worst, rest, scanned_mib, peak_mib, idle_mib, hit_us)


def main() -> None:
    """Fill the folder, or measure and print the figures as one line of JSON."""
    root, count = Path(sys.argv[1]), int(sys.argv[2])
    if "--fill" not in sys.argv:
        sys.stdout.write(json.dumps(asdict(trio.run(measure, root))) + "\n")
    elif not (root / "verified.sqlite").exists():
        fill(root, count)


if __name__ == "__main__":
    main()

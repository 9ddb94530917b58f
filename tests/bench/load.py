"""What loads the servers: wrk for hits, and for misses clients of our own, which ask for one thing once."""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import trio

if TYPE_CHECKING:
    from tests.bench.samples import Sample

_READ_BYTES: Final = 1 << 18
_LIMIT_SECONDS: Final = 120
_MEGA: Final = 1e6


class LoadError(Exception):
    """Something was answered otherwise than it should be: a figure of that would mean nothing."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Answers, and megabytes (10**6 bytes) of them, in a second."""

    requests: float
    megabytes: float


def hit(url: str, *, connections: int, seconds: int) -> Rate:
    """Ask for one thing again and again, over connections that are kept. Raises LoadError."""
    command = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--timeout", "30s", url]
    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 60).stdout
    found = re.search(r"^Requests/sec: +([0-9.]+)\nTransfer/sec: +([0-9.]+)([KMGT]?)B$", text, re.MULTILINE)
    if found is None or "Non-2xx" in text or "Socket errors" in text:
        raise LoadError(f"{url}: {text}")
    return Rate(float(found[1]), float(found[2]) * 1024 ** " KMGT".index(found[3] or " ") / _MEGA)


@dataclass(frozen=True, slots=True)
class Arrival:
    """How long clients waited: one, for its first byte of body, and all together, until everybody had everything."""

    first_seconds: float
    seconds: float


async def _fetch(url: str, sample: Sample) -> float:
    """Fetch a sample and count its bytes; return when its first one came."""
    address = urlsplit(url)
    async with await trio.open_tcp_stream(str(address.hostname), address.port or 80) as stream:
        head = f"GET {sample.path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
        await stream.send_all(head.encode())
        received = b""
        while b"\r\n\r\n" not in received:
            piece = await stream.receive_some(_READ_BYTES)
            if not piece:
                raise LoadError(f"{url}{sample.path}: {received!r}")
            received += piece
        first = time.perf_counter()
        answer, _, body = received.partition(b"\r\n\r\n")
        length = len(body)
        while piece := await stream.receive_some(_READ_BYTES):
            length += len(piece)
    if not answer.startswith(b"HTTP/1.1 200") or length != sample.size_bytes:
        raise LoadError(f"{url}{sample.path}: {length} bytes of {sample.size_bytes} after {answer!r}")
    return first


async def fetch(url: str, sample: Sample, *, clients: int) -> Arrival:
    """Fetch a sample with so many clients at once. Raises LoadError, TooSlowError."""
    firsts: list[float] = []

    async def one() -> None:
        firsts.append(await _fetch(url, sample))

    begun = time.perf_counter()
    with trio.fail_after(_LIMIT_SECONDS):
        async with trio.open_nursery() as nursery:
            for _ in range(clients):
                nursery.start_soon(one)
    return Arrival(min(firsts) - begun, time.perf_counter() - begun)

"""How a deployment ends, in order and not, under load; and who only wants to keep it busy."""

from __future__ import annotations

import http.client
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest
from tests.acceptance.target import eventually
from tests.deployment.stack import SERVERS
from tests.web.tarball import build_tarball

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.deployment.stack import Shared, Stack
    from tests.integration.storage import ScriptedStorage

pytestmark = pytest.mark.integration

DOWNLOADS = 50
LARGE = build_tarball(8_000_000, b"large")
SLOW_HEADS, SLOW_READERS = 9_000, 1_000


def offer(storage: ScriptedStorage, seed: str) -> dict[str, bytes]:
    """Have the storage server offer what nobody has asked for yet; return it by its path."""
    made = [build_tarball(200_000, f"{seed} {number}".encode()) for number in range(DOWNLOADS)]
    files = {tarball.path: tarball.body for tarball in made}
    storage.files.update(files)
    return files


def fetch(url: str, path: str) -> bytes | None:
    """Return a whole answer; None when it breaks off."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def flights(stack: Stack) -> int:
    texts = [httpx.get(f"{url}/metrics", trust_env=False).text for url in stack.server_urls()]
    lines = (line for text in texts for line in text.splitlines() if line.startswith("pkgserver_flights_inprogress "))
    return sum(int(float(line.split()[1])) for line in lines)


def kept(stack: Stack) -> dict[str, bytes]:
    """Return what is in the caches, by its path; each is there once."""
    caches = [stack.folder / f"state/store{number}/cache" for number in (1, 2)]
    files = [(file, cache) for cache in caches for file in cache.rglob("*") if file.is_file()]
    return {f"/{file.relative_to(cache)}": file.read_bytes() for file, cache in files}


def temporary(stack: Stack) -> list[Path]:
    return [file for number in (1, 2) for file in (stack.folder / f"state/store{number}/temp").rglob("*")]


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process have as many connections as the machine lets it."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    assert hard > SLOW_HEADS + SLOW_READERS + 1_000
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_ten_thousand_slow_connections_keep_nobody_out(running: Stack, shared: Shared, many_files: None) -> None:
    shared.storage.files[LARGE.path] = LARGE.body
    assert fetch(running.url, LARGE.path) == LARGE.body
    eventually(lambda: httpx.head(f"{running.url}{LARGE.path}", trust_env=False).headers.get("X-Cache-Miss") is None)
    address = (running.engine.address, 8000)
    over = threading.Event()
    with ExitStack() as slow, ThreadPoolExecutor(max_workers=16) as pool:
        slow.callback(over.set)

        def connect(opening: bytes) -> None:
            connection = slow.enter_context(socket.create_connection(address, timeout=20))
            connection.sendall(opening)

        reader = f"GET {LARGE.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        openings = [reader] * SLOW_READERS + [b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "] * SLOW_HEADS
        list(pool.map(connect, openings))
        misses = {tarball.path: tarball.body for n in range(50) for tarball in [build_tarball(300, b"busy %d" % n)]}
        shared.storage.files.update(misses)
        for path, body in misses.items():
            assert fetch(running.url, path) == body
            assert fetch(running.url, LARGE.path) == LARGE.body
            assert httpx.get(f"{running.url}/healthz", trust_env=False, timeout=5).status_code == 200
    assert running.engine.inspect("pkgserver-frontend-1")["State"]["Health"]["Status"] == "healthy"


def test_down_finishes_fifty_running_downloads(running: Stack, shared: Shared) -> None:
    files = offer(shared.storage, "down")
    with ThreadPoolExecutor(max_workers=DOWNLOADS + 1) as pool, ExitStack() as held:
        releases = [held.enter_context(shared.storage.held(path)) for path in files]
        fetching = {path: pool.submit(fetch, running.url, path) for path in files}
        eventually(lambda: flights(running) == DOWNLOADS)
        ending = pool.submit(shared.stand_aside)
        for server in SERVERS:
            running.engine.wait_for_log(f"pkgserver-{server}-1", "stopping", patience_seconds=20)
        for release in releases:
            release.set()
        received = {path: one.result() for path, one in fetching.items()}
        ending.result()
    assert received == files
    assert {path: body for path, body in kept(running).items() if path in files} == files
    assert temporary(running) == []
    died = ("events", "--since=5m", "--until=0s", "--filter=event=die", "--filter=label=pkgserver.settings")
    codes = running.engine.docker(*died, "--format={{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}")
    assert {line for line in codes.splitlines() if "run" not in line} == {f"pkgserver-{name}-1 0" for name in SERVERS}


def test_after_a_power_cut_only_whole_and_right_files_are_served(running: Stack, shared: Shared) -> None:
    files = offer(shared.storage, "cut")
    first, *rest = files
    with ThreadPoolExecutor(max_workers=DOWNLOADS) as pool, ExitStack() as held:
        for path in rest[::2]:
            held.enter_context(shared.storage.held(path))
        assert fetch(running.url, first) == files[first]
        fetching = [pool.submit(fetch, running.url, path) for path in rest]
        eventually(lambda: len(files.keys() & kept(running).keys()) > 3)  # others are just being committed
        running.engine.cut_power()
        broken = [one.result() for one in fetching]
    assert None in broken
    assert all(body is None or body in files.values() for body in broken)
    assert {path for path, body in kept(running).items() if body != shared.storage.files[path]} == set()

    def is_back() -> bool:
        try:
            asked = (
                httpx.get(f"{running.url}/readyz", headers={"X-Pkgserver": number}, trust_env=False) for number in "12"
            )
            return all(answer.status_code == 200 for answer in asked)
        except httpx.TransportError:
            return False

    eventually(is_back)
    eventually(lambda: temporary(running) == [])  # one that still starts is stood in for by the other one
    assert {path: fetch(running.url, path) for path in files} == files

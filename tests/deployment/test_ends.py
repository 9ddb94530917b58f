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
from tests.deployment.stack import FQDN, SERVERS
from tests.integration.storage import open_storage
from tests.web.tarball import build_tarball

from pkgserver_trio.demo.sample import build_sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.deployment.containers import Engine
    from tests.deployment.stack import Shared, Stack
    from tests.integration.storage import ScriptedStorage

pytestmark = pytest.mark.integration

SAMPLE = build_sample()
DOWNLOADS = 50
FILES = {
    tarball.path: tarball.body
    for number in range(DOWNLOADS)
    for tarball in [build_tarball(200_000, b"end %d" % number)]
}
LARGE = build_tarball(8_000_000, b"large")
SLOW_HEADS, SLOW_READERS = 9_000, 1_000


@pytest.fixture
def storage(engine: Engine) -> Iterator[ScriptedStorage]:
    with open_storage({**SAMPLE.files, **FILES}, engine.host_address) as storage:
        yield storage


@pytest.fixture
def started(stack: Stack, storage: ScriptedStorage) -> Stack:
    """Return a deployment of this test's own, ready."""
    stack.write_env(PKG_SERVER_FQDN=FQDN, DISABLE_TLS="1", STORAGE_SERVERS=storage.url)
    stack.make()
    eventually(lambda: httpx.get(f"{stack.url}/readyz", trust_env=False).json()["status"] == "ok")
    return stack


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


def test_down_finishes_fifty_running_downloads(started: Stack, storage: ScriptedStorage) -> None:
    with ThreadPoolExecutor(max_workers=DOWNLOADS + 1) as pool, ExitStack() as held:
        releases = [held.enter_context(storage.held(path)) for path in FILES]
        fetching = {path: pool.submit(fetch, started.url, path) for path in FILES}
        eventually(lambda: flights(started) == DOWNLOADS)
        ending = pool.submit(started.make, "down")
        for server in SERVERS:
            started.engine.wait_for_log(f"pkgserver-{server}-1", "stopping", patience_seconds=20)
        for release in releases:
            release.set()
        received = {path: one.result() for path, one in fetching.items()}
        assert ending.result().returncode == 0
    assert received == FILES
    assert {path: body for path, body in kept(started).items() if path in FILES} == FILES
    assert temporary(started) == []
    died = ("events", "--since=5m", "--until=0s", "--filter=event=die", "--filter=label=pkgserver.settings")
    codes = started.engine.docker(*died, "--format={{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}")
    assert {line for line in codes.splitlines() if "run" not in line} == {f"pkgserver-{name}-1 0" for name in SERVERS}


def test_after_a_power_cut_only_whole_and_right_files_are_served(started: Stack, storage: ScriptedStorage) -> None:
    first, *rest = FILES
    with ThreadPoolExecutor(max_workers=DOWNLOADS) as pool, ExitStack() as held:
        for path in rest[::2]:
            held.enter_context(storage.held(path))
        assert fetch(started.url, first) == FILES[first]
        fetching = [pool.submit(fetch, started.url, path) for path in rest]
        eventually(lambda: len(kept(started)) > 3)  # others are just being committed
        started.engine.cut_power()
        broken = [one.result() for one in fetching]
    assert None in broken
    assert all(body is None or body in FILES.values() for body in broken)
    everything = {**SAMPLE.files, **FILES}
    assert {path for path, body in kept(started).items() if everything[path] != body} == set()

    def is_back() -> bool:
        try:
            return httpx.get(f"{started.url}/readyz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    eventually(is_back)
    assert temporary(started) == []
    assert {path: fetch(started.url, path) for path in FILES} == FILES


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

"""A server that ends, hangs or has no memory left is back by itself, and meanwhile nobody notices."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.acceptance.target import eventually
from tests.deployment.load import loaded
from tests.deployment.stack import SERVERS
from tests.web.tarball import build_tarball

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.deployment.containers import Engine
    from tests.deployment.load import Load
    from tests.deployment.stack import Shared, Stack

pytestmark = pytest.mark.integration

#: Within which everything is to be well again.
HEALING_SECONDS = 60
VICTIM, OTHER = (f"pkgserver-{server}-1" for server in SERVERS)
HEALTH = ("python3", "/app/pkgserver.pyz", "healthcheck")
#: What a server starts with, and some more.
LITTLE, PLENTY = "120m", "2g"
#: Each takes less than a server has, all together more than there is.
EATER = "import time; x = b'x' * 15_000_000; time.sleep(30)"
EATERS = f'for eater in 1 2 3 4 5 6 7; do python3 -c "{EATER}" & done; wait'


@pytest.fixture
def load(running: Stack, shared: Shared) -> Iterator[Load]:
    """Give a load on the deployment, all of whose servers are well."""
    for name in (VICTIM, OTHER):
        eventually(lambda name=name: health(running.engine, name) == "healthy")  # type: ignore[misc]
    with loaded(running.url, shared.storage) as load:
        load.await_count(50)
        yield load


def health(engine: Engine, name: str) -> str:
    return str(engine.inspect(name)["State"]["Health"]["Status"])


def start_of(engine: Engine, name: str) -> str:
    """Return when a container was started last."""
    return str(engine.inspect(name)["State"]["StartedAt"])


def signal_to(engine: Engine, name: str, number: signal.Signals) -> None:
    """Send a signal to the process of a container, past the engine."""
    process = engine.inspect(name)["State"]["Pid"]
    assert process > 1  # 0, which is there between two starts, is everybody
    os.kill(process, number)


def await_next_run(engine: Engine, before: str) -> None:
    """Return once the victim has been started anew, and is well."""
    deadline = time.monotonic() + HEALING_SECONDS
    while start_of(engine, VICTIM) == before or health(engine, VICTIM) != "healthy":
        assert time.monotonic() < deadline, engine.docker("logs", "pkgserver-autoheal-1")


@contextmanager
def healed(engine: Engine, load: Load) -> Iterator[Callable[[], None]]:
    """Do the damage inside, and call what is yielded then; after that the victim comes back, and all was answered."""
    before, other = start_of(engine, VICTIM), start_of(engine, OTHER)
    struck: list[float] = []
    yield lambda: struck.append(time.monotonic())
    await_next_run(engine, before)
    seconds = time.monotonic() - struck[0]
    load.await_count(len(load.asked) + 50)
    assert load.faults("hit") == []
    # What was under way on a connection that broke is asked for again by any client.
    assert load.faults("miss", since=struck[0]) == []
    assert len(load.faults("miss")) <= 5
    assert start_of(engine, OTHER) == other
    print(f"healed after {seconds:.0f} s, {dict(load.counts())} asked, {len(load.faults('miss'))} broken off")  # noqa: T201


def test_killed_server_is_started_anew(running: Stack, load: Load) -> None:
    with healed(running.engine, load) as struck:
        signal_to(running.engine, VICTIM, signal.SIGKILL)
        struck()


def test_server_without_memory_is_killed_and_started_anew(running: Stack, load: Load) -> None:
    engine = running.engine
    began = f"{time.time():.3f}"
    engine.docker("update", f"--memory={LITTLE}", f"--memory-swap={LITTLE}", VICTIM)
    with healed(engine, load) as struck:
        engine.docker("exec", VICTIM, "sh", "-c", EATERS, check=False)  # it ends with the container
        struck()
    engine.docker("update", f"--memory={PLENTY}", f"--memory-swap={PLENTY}", VICTIM)
    span = (f"--since={began}", f"--until={time.time():.3f}")
    events = engine.docker("events", *span, "--filter=event=oom", "--format={{.Actor.Attributes.name}}")
    assert set(events.split()) == {VICTIM}


def test_server_that_ends_in_order_is_not_taken_for_one_that_hangs(running: Stack, shared: Shared) -> None:
    cold = build_tarball(100_000, b"held")
    shared.storage.files[cold.path] = cold.body
    engine, url = running.engine, running.server_urls()[0]
    before = start_of(engine, VICTIM)
    with ThreadPoolExecutor() as pool, shared.storage.held(cold.path) as release:
        answer = pool.submit(httpx.get, f"{url}{cold.path}", trust_env=False, timeout=30)
        eventually(lambda: f"GET {cold.path}" in shared.storage.requests)
        signal_to(engine, VICTIM, signal.SIGTERM)
        eventually(lambda: "it ends, and finishes" in engine.docker("exec", VICTIM, *HEALTH))
        release.set()
        assert answer.result().content == cold.body
    await_next_run(engine, before)


def test_hung_server_is_started_anew(running: Stack, load: Load) -> None:
    with healed(running.engine, load) as struck:
        signal_to(running.engine, VICTIM, signal.SIGSTOP)
        struck()
    assert f"/{VICTIM} (" in running.engine.docker("logs", "pkgserver-autoheal-1")

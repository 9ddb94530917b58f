"""A load of hits and misses from several clients at one time, each answer of which is looked at."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import httpx
from tests.web.tarball import build_tarball

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.storage import ScriptedStorage
    from tests.web.tarball import Tarball

CLIENTS: Final = 5
#: A miss may wait for a server that hangs, then for the other one.
PATIENCE_SECONDS: Final = 50
#: So that the machine has time for something else, too.
PAUSE_SECONDS: Final = 0.02
_SIZE_BYTES: Final = 3000
#: Another one for each load of this process.
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Asked:
    """One request; `fault` is None when all was right. Times are of the monotonic clock."""

    kind: str
    began: float
    ended: float
    fault: str | None


@dataclass
class Load:
    """What was asked so far."""

    url: str
    storage: ScriptedStorage
    warm: Tarball
    asked: list[Asked] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def await_count(self, count: int) -> None:
        """Return once that many were answered."""
        while len(self.asked) < count:
            assert not self.over.wait(0.05)

    def faults(self, kind: str, since: float = 0) -> list[Asked]:
        """Return what went wrong with requests of that kind that began after `since`."""
        return [one for one in self.asked if one.kind == kind and one.fault is not None and one.began >= since]

    def counts(self) -> Counter[str]:
        return Counter(one.kind for one in self.asked)

    def ask_until_over(self, name: str) -> None:
        with client_of(self.url) as client:
            for number in itertools.count():
                if self.over.wait(PAUSE_SECONDS):
                    return
                self._ask(client, "hit", self.warm)
                cold = build_tarball(_SIZE_BYTES, f"{name} {number}".encode())
                self.storage.files[cold.path] = cold.body
                self._ask(client, "miss", cold)

    def _ask(self, client: httpx.Client, kind: str, tarball: Tarball) -> None:
        began = time.monotonic()
        try:
            answer = client.get(tarball.path)
        except httpx.HTTPError as error:
            fault: str | None = repr(error)
        else:
            is_right = (answer.status_code, answer.content) == (200, tarball.body)
            fault = None if is_right else f"{answer.status_code}, {len(answer.content)} bytes"
        self.asked.append(Asked(kind, began, time.monotonic(), fault))


def client_of(url: str) -> httpx.Client:
    """Return a client for one thread: of a connection that several share, one may close what another reads from."""
    return httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE_SECONDS)


@contextmanager
def loaded(url: str, storage: ScriptedStorage) -> Iterator[Load]:
    """Have clients ask the deployment at `url` as long as the context lasts."""
    name = f"load {next(_numbers)}"
    warm = build_tarball(_SIZE_BYTES, name.encode())
    storage.files[warm.path] = warm.body
    load = Load(url, storage, warm)
    with client_of(url) as client:
        while client.get(warm.path).headers.get("X-Cache-Miss") is not None:
            pass
    with ThreadPoolExecutor(CLIENTS) as pool:
        asking = [pool.submit(load.ask_until_over, f"{name}, {number}") for number in range(CLIENTS)]
        try:
            yield load
        finally:
            load.over.set()
        for one in asking:
            one.result()

"""Three storage servers on loopback sockets, their weather, and the registries that move on.

1. At most moments one server is honest: up, and right in every answer. The others fail at random, or are down.
2. The last server learns of each new registry first, and never denies what it has. So whatever clients know of exists
   on it, and a 404 for it is always wrong.
"""

from __future__ import annotations

from enum import Enum, auto
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Final

import trio
from tests.behaviours import MISSING, Behaviour, Request, good, redirect
from tests.fakes import FakeUpstream
from tests.soak.catalogue import FLAVORS, STORAGE_SERVERS, Catalogue, Tarball
from tests.soak.faults import LOOP, faults_at
from trio_util import AsyncValue

if TYPE_CHECKING:
    from tests.soak.ledger import Ledger

_FAULT_SHARE: Final = 0.5
_HONEST_SHARE: Final = 0.9  # of the time
_WEATHER_SECONDS: Final = (2.0, 6.0)
_RESTART_SECONDS: Final = (0.0, 1.5)
_HEAD_SECONDS: Final = (0.5, 3.0)  # between two states of the registries
_LAST: Final = STORAGE_SERVERS - 1


class Mood(Enum):
    HONEST = auto()
    FAULTY = auto()
    RESTARTING = auto()


class Shelf:
    """What the storage servers have: all tarballs, and each registry up to some state that differs between them."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.states = [1] * STORAGE_SERVERS
        self._newest = min(len(heads) for heads in catalogue.heads.values()) - 1

    def heads(self) -> list[Tarball]:
        """Return the registries' states that every server has."""
        everywhere = min(self.states) + 1
        return [head for heads in self.catalogue.heads.values() for head in heads[:everywhere]]

    def find(self, server: int, path: str) -> Behaviour:
        """Return the honest answer of a server."""
        flavor = path.removeprefix("/registries").removeprefix(".")
        if path.startswith("/registries"):
            return good(self.listing(flavor, self.states[server])) if flavor in ("", *FLAVORS) else MISSING
        tarball = self.catalogue.by_path.get(path)
        if tarball is None or self.catalogue.ages.get(path, 0) > self.states[server]:
            return MISSING
        return tarball.answers[server]

    def listing(self, flavor: str, state: int) -> bytes:
        """Return a list of registries, the conservative one a state behind."""
        return self.catalogue.listing(state - (flavor == "conservative"))

    async def move_on(self, random: Random) -> None:
        """Give the last server a new state of each registry now and then, and the others some time later."""
        while self.states[_LAST] < self._newest:
            await trio.sleep(random.uniform(*_HEAD_SECONDS))
            self.states[_LAST] += 1
            for server in range(_LAST):
                await trio.sleep(random.uniform(0, 1))
                if random.random() < 0.7:
                    self.states[server] = self.states[_LAST]

    def settle(self) -> None:
        """Give every server what the last one has."""
        self.states = [self.states[_LAST]] * STORAGE_SERVERS


class StorageServer:
    """One of them; it listens on the same port whenever it is up."""

    def __init__(self, number: int, shelf: Shelf, ledger: Ledger, seed: str) -> None:
        self.mood = AsyncValue(Mood.HONEST)
        self.port = 0
        self._number, self._shelf, self._ledger = number, shelf, ledger
        self._random = Random(f"{seed}/storage server {number}")

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve for ever, but stop listening and drop every connection whenever the mood is to restart."""
        while True:
            upstream = FakeUpstream()
            upstream.script, upstream.port = partial(self._answer, upstream), self.port
            async with upstream:
                self.port = upstream.port
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                await self.mood.wait_value(Mood.RESTARTING)
            self._ledger.faults["restart"] += 1
            with trio.move_on_after(self._random.uniform(*_RESTART_SECONDS)):
                await self.mood.wait_value(Mood.HONEST)
            if self.mood.value is Mood.RESTARTING:
                self.mood.value = Mood.FAULTY

    def _answer(self, upstream: FakeUpstream, request: Request) -> Behaviour:
        upstream.seen.clear()  # nobody reads them, and a soak is long
        path, loop, _ = request.path.partition(LOOP)
        if loop:
            return redirect(request.path)
        honest = self._shelf.find(self._number, path)
        if self.mood.value is Mood.HONEST or honest is MISSING or self._random.random() > _FAULT_SHARE:
            return honest
        faults = faults_at(request.method, listing=path.startswith("/registries"))
        kind = self._random.choice([kind for kind in faults if (kind, self._number) != ("404", _LAST)])
        self._ledger.faults[kind] += 1
        return faults[kind](self._random, self._shelf.catalogue, honest)


async def change_weather(servers: list[StorageServer], random: Random) -> None:
    """Choose again and again who is honest, and what the others are."""
    while True:
        honest = random.choice(servers) if random.random() < _HONEST_SHARE else None
        for server in servers:
            others = (Mood.FAULTY, Mood.FAULTY, Mood.RESTARTING, Mood.HONEST)
            server.mood.value = Mood.HONEST if server is honest else random.choice(others)
        await trio.sleep(random.uniform(*_WEATHER_SECONDS))


def clear_up(servers: list[StorageServer]) -> None:
    """End all faults."""
    for server in servers:
        server.mood.value = Mood.HONEST

"""The course of a soak: load with faults, two `kill -9` in it, two rests to compare, and a last look at everything."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

import trio
from tests.soak.asks import Ask, Conduct, Planner
from tests.soak.catalogue import FLAVORS, STORAGE_SERVERS, build_catalogue
from tests.soak.clients import Client, connect
from tests.soak.judge import Judge
from tests.soak.ledger import Ledger, Outcome
from tests.soak.operators import OperatorPlanner
from tests.soak.server import ServerProcess
from tests.soak.storage import Shelf, StorageServer, change_weather, clear_up
from tests.soak.vitals import read_vitals
from tests.web.raw import RawClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from tests.soak.catalogue import Catalogue
    from tests.soak.ledger import Vitals

_CLIENTS: Final = 64
_OPERATORS: Final = 6
_PROGRESS_SECONDS: Final = 10
#: Idle threads end after ten seconds.
_REST_SECONDS: Final = 15
#: How often something is asked for when there are no more faults, a second apart.
_TRIES: Final = 20
_LOOKERS: Final = 8


@dataclass(frozen=True, slots=True)
class Soak:
    """All that takes part. `say` prints a line."""

    ledger: Ledger
    shelf: Shelf
    storage: list[StorageServer]
    server: ServerProcess
    clients: list[Client]
    operators: list[Client]
    random: Random
    say: Callable[[str], None]

    async def run(self, seconds: float) -> None:
        """Do the whole course, with load for so many seconds, and say what came of it."""
        quarter = seconds / 4  # as long before the first look as after it: a server that is still warming up grows
        await self._load(quarter, quarter, quarter)
        before = await self._rest()
        await self._load(quarter)
        clear_up(self.storage)
        self.shelf.settle()
        await self._look_for_everything()
        after = await self._rest(before)
        await self.server.stop()
        for line in (*self.ledger.report(), *self.ledger.compare(before, after)):
            self.say(line)

    async def _load(self, *periods: float) -> None:
        """Let all of it loose for these many seconds each, with a `kill -9` between the periods."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(change_weather, self.storage, self.random)
            nursery.start_soon(self.shelf.move_on, self.random)
            for client in (*self.clients, *self.operators):
                nursery.start_soon(client.run)
            for number, seconds in enumerate(periods):
                if number:
                    await self._kill_and_start()
                await trio.sleep(seconds)
            nursery.cancel_scope.cancel()

    async def _kill_and_start(self) -> None:
        await self.server.kill()
        self.ledger.wrong.extend(_wrong_files(self.server.root / "cache", self.shelf.catalogue))
        self.say("kill -9")
        await self.server.start()

    async def _rest(self, before: Vitals | None = None) -> Vitals:
        """Wait until the server has nothing to do, and no more than `before`; return what it then holds."""
        clear_up(self.storage)
        with trio.move_on_after(_REST_SECONDS):
            while not _is_at_rest(self._vitals(), before):
                await trio.sleep(0.5)  # the kernel tells no event of another process
                await self.server.wait_until_serving()
        return self._vitals()

    def _vitals(self) -> Vitals:
        ports = {server.port for server in self.storage}
        return read_vitals(self.server.pid, self.server.root, self.server.port, ports)

    async def _look_for_everything(self) -> None:
        """Ask for all there is; what does not come through right in some tries is lost."""
        catalogue = self.shelf.catalogue
        asks = [Ask(path=tarball.path) for tarball in (*catalogue.tarballs, *self.shelf.heads())]
        send, receive = trio.open_memory_channel[Ask](len(asks))
        for ask in asks:
            send.send_nowait(ask)
        send.close()
        async with trio.open_nursery() as nursery:
            for flavor in FLAVORS:
                nursery.start_soon(self._look_for_newest, flavor)
            for client in self.clients[:_LOOKERS]:
                nursery.start_soon(self._look, client, receive.clone())
            receive.close()

    async def _look(self, client: Client, asks: trio.MemoryReceiveChannel[Ask]) -> None:
        async for ask in asks:
            for _ in range(_TRIES):
                if await self._comes_right(client, ask):
                    break
                await trio.sleep(1)
            else:
                self.ledger.lost.append(ask.path)

    async def _comes_right(self, client: Client, ask: Ask) -> bool:
        try:
            async with await connect(self.server.port) as stream:
                return await client.ask(RawClient(stream), ask, Conduct()) is Outcome.RIGHT
        except OSError:
            return False

    async def _look_for_newest(self, flavor: str) -> None:
        """See that the list of registries catches up with the storage servers."""
        ask = Ask(path=f"/registries.{flavor}")
        honest = self.shelf.find(0, ask.path).body.decode().split()
        newest = {path.split("/")[2]: self.shelf.catalogue.ages[path] for path in honest}
        for _ in range(_TRIES):
            await self._comes_right(self.clients[-1], ask)
            if self.ledger.judge.newest(ask.path) == newest:
                return
            await trio.sleep(1)
        self.ledger.lost.append(f"{ask.path} with {newest}")


def _wrong_files(cache: Path, catalogue: Catalogue) -> Iterator[str]:
    """Yield a sentence for each file of a dead server's cache that is no honest tarball of its tree."""
    for path in cache.rglob("*"):
        if path.is_file() and path.read_bytes() not in catalogue.by_path[f"/{path.relative_to(cache)}"].bodies:
            yield f"{path}, {path.stat().st_size} bytes, was there after kill -9"


def _is_at_rest(now: Vitals, before: Vitals | None) -> bool:
    if before is None:
        return not (now.connections or now.unfinished)
    return not any(now.growth_since(before).values())


@asynccontextmanager
async def open_soak(folder: Path, seed: str, seconds: float, say: Callable[[str], None]) -> AsyncIterator[Soak]:
    """Build everything in an empty folder, with the server serving. Raises trio.TooSlowError."""
    shelf = Shelf(build_catalogue(seed, states=10 + int(seconds)))
    ledger = Ledger(Judge(shelf.catalogue))
    storage = [StorageServer(number, shelf, ledger, seed) for number in range(STORAGE_SERVERS)]
    async with trio.open_nursery() as nursery:
        for storage_server in storage:
            await nursery.start(storage_server.run)
        server = ServerProcess(folder, [storage_server.port for storage_server in storage], ledger, nursery)

        def client(planner: type[Planner], name: str) -> Client:
            random = Random(f"{seed}/{name}")
            return Client(server, ledger, planner(random, shelf.catalogue, shelf.heads), random)

        clients = [client(Planner, f"client {number}") for number in range(_CLIENTS)]
        operators = [client(OperatorPlanner, f"operator {number}") for number in range(_OPERATORS)]
        nursery.start_soon(_tell_progress, ledger, say)
        try:
            await server.start()
            yield Soak(ledger, shelf, storage, server, clients, operators, Random(f"{seed}/weather"), say)
        finally:
            server.leave_nothing()
        nursery.cancel_scope.cancel()


async def _tell_progress(ledger: Ledger, say: Callable[[str], None]) -> None:
    while True:
        await trio.sleep(_PROGRESS_SECONDS)
        say(ledger.progress())

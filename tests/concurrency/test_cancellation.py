"""Cancellation at every step of a download: all that it took is given back, and the resource comes through afterwards.

A task's step ends at a checkpoint, where a cancellation that came before the step is delivered. Each scene is played
anew with the cancellation before its first step, its second one, and so on, until it ends before it would come.
"""

from __future__ import annotations

import gzip
import hashlib
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TYPE_CHECKING

import pytest
import trio
from tests.disks import Hasty
from tests.fakes import Behaviour, FakeTransport, Pieces, good
from tests.lofts import LoftPlan, Reading, open_loft, read_on, tarball
from tests.steps import Countdown, own_flights, play_at_every_step

from pkgserver_trio.errors import ResourceUnavailableError
from pkgserver_trio.library import Sighting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from tests.lofts import Loft

WANTED = tarball("wanted", 40_000)
BODY, SIZE, NAME = WANTED.body, WANTED.size, WANTED.resource.name
HALF = SIZE // 2
OTHER, OLD = tarball("other", 40_000), tarball("old", 40_000)
PIECES = Pieces(size=SIZE // 3 + 1)
SPANS: list[tuple[int, int | None]] = [(0, None), (SIZE // 4, HALF)]


class Target(Enum):
    """What is cancelled."""

    FLIGHTS = auto()
    ONE_CLIENT = auto()
    ALL = auto()


async def reading(loft: Loft, client: int) -> Reading:
    return await read_on(await loft.library.obtain(WANTED.resource, peer="peer"), *SPANS[client])


async def sighting(loft: Loft, _: int) -> Sighting:
    return await loft.library.sight(WANTED.resource, peer="peer")


async def sha256(loft: Loft, _: int) -> str:
    return await loft.library.sha256(WANTED.resource, peer="peer")


def sent(body: bytes = BODY, **how: object) -> Behaviour:
    return Behaviour(body=body, pieces=PIECES, **how)  # type: ignore[arg-type] # each is checked where it is played


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Two clients who do the same; the first server's answers to GET; a second server, if any, is good."""

    gets: list[Behaviour] = field(default_factory=lambda: [sent()])
    second: bool = False
    act: Callable[[Loft, int], Awaitable[object]] = reading
    inherited: bytes | None = None
    plan: LoftPlan = field(default_factory=LoftPlan)
    held: bool = False  # another resource, which has to make room
    breaks_off: bool = False
    at_least: int = 40  # steps

    def hosts(self) -> dict[str, FakeTransport]:
        script: Mapping[tuple[str, str], Behaviour | list[Behaviour]] = {
            ("GET", WANTED.path): self.gets,
            ("HEAD", WANTED.path): good(BODY),
        }
        late = {("HEAD", WANTED.path): Behaviour(body=BODY, delay_before_head=0.1)}
        first = FakeTransport({OLD.path: OLD.body}, script)
        return {
            "one.invalid": first,
            **({"two.invalid": FakeTransport({WANTED.path: BODY}, late)} if self.second else {}),
        }


DAMAGED = BODY[:HALF] + b"damaged" + BODY[HALF + 7 :]
SCENES = {
    "plain": Scene(),
    "chunked": Scene(gets=[sent(declared_length=None)]),
    "resumed": Scene(gets=[sent(etag='"tag"', reset_at=HALF), sent(etag='"tag"')]),
    "resumed, another copy": Scene(
        gets=[sent(DAMAGED, etag='"old"', reset_at=HALF + 99), sent(etag='"tag"')], breaks_off=True
    ),
    "handed over": Scene(gets=[sent(stall_at=HALF)], second=True),
    "handed over, another copy": Scene(gets=[sent(OTHER.body, stall_at=HALF)], second=True, breaks_off=True),
    "handed over, damaged": Scene(gets=[sent(DAMAGED)], second=True, breaks_off=True),
    "handed over, too long": Scene(gets=[sent(BODY + b"garbage")], second=True, breaks_off=True),
    "gzip twice": Scene(gets=[sent(gzip.compress(BODY, mtime=0), headers={"content-encoding": "gzip"})]),
    "not fitting": Scene(plan=LoftPlan(max_cache=SIZE // 2)),
    "not fitting, chunked": Scene(gets=[sent(declared_length=None)], plan=LoftPlan(max_cache=SIZE // 2)),
    "evicting": Scene(plan=LoftPlan(max_cache=SIZE * 3 // 2), held=True),
    "probe": Scene(act=sighting, at_least=10),
    "inspection": Scene(inherited=BODY, at_least=10),
    "inspection, wrong": Scene(inherited=OTHER.body),
    "inspection for a probe": Scene(inherited=BODY[:-1], act=sighting, at_least=20),
    "sha256": Scene(act=sha256),
    "sha256, inherited": Scene(inherited=BODY, act=sha256, at_least=10),
    "sha256, not fitting": Scene(plan=LoftPlan(max_cache=SIZE // 2), act=sha256),
}


async def land(loft: Loft) -> None:
    """Wait for all that goes on without clients."""
    coalescers = (loft.downloads.flights, loft.downloads._errands, loft.library._inspections)
    while any(len(works) for works in coalescers):  # noqa: ASYNC110 # pretended time; nobody tells when all are over
        await trio.sleep(1)


class Play:
    """One performance of a scene."""

    def __init__(self, root: Path, scene: Scene, target: Target, countdown: Countdown) -> None:
        self.root, self.scene, self.target, self.countdown = root, scene, target, countdown
        self.hosts = scene.hosts()
        self.outcomes: dict[int, object] = {}
        self.first_client = trio.CancelScope()
        self.flights: trio.Nursery | None = None
        self.over = trio.Event()

    async def perform(self) -> None:
        if self.scene.inherited is not None:
            path = self.root / "cache" / NAME
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.scene.inherited)
        with trio.CancelScope() as everything:
            async with trio.open_nursery() as owner, AsyncExitStack() as stack:
                if self.target is Target.FLIGHTS:
                    self.flights = await owner.start(own_flights, self.over)
                    stack.callback(self.over.set)
                plan = replace(self.scene.plan, nursery=self.flights, disk=Hasty())
                loft = await stack.enter_async_context(open_loft(self.root, self.hosts, plan))
                await self._be_clients(loft, everything)
                self._check(loft)
                if self.target is Target.ONE_CLIENT:
                    await self._check_it_comes(loft)
        self._check(loft)
        if self.target is not Target.ONE_CLIENT:
            async with open_loft(self.root, self.hosts, LoftPlan(disk=Hasty())) as next_loft:
                await self._check_it_comes(next_loft)

    async def _be_clients(self, loft: Loft, everything: trio.CancelScope) -> None:
        if self.scene.held:
            await loft.library.hold(OLD.resource)
        scopes = {Target.ALL: everything, Target.ONE_CLIENT: self.first_client}
        scope = self.flights.cancel_scope if self.flights is not None else scopes[self.target]
        self.countdown.strike = scope.cancel
        try:
            async with trio.open_nursery() as clients:
                clients.start_soon(self._be_client, loft, 0)
                clients.start_soon(self._be_client, loft, 1)
            await land(loft)
        finally:
            self.countdown.strike = None

    async def _be_client(self, loft: Loft, client: int) -> None:
        with self.first_client if client == 0 else trio.CancelScope():
            try:
                self.outcomes[client] = await self.scene.act(loft, client)
            except ResourceUnavailableError as error:
                self.outcomes[client] = error

    def _check(self, loft: Loft) -> None:
        loft.assert_no_leftovers()
        assert loft.downloads._admission._waiting.total() == 0
        assert loft.downloads._turns.total.borrowed_tokens == 0
        assert loft.downloads._probes._turns.total.borrowed_tokens == 0
        assert not loft.downloads._turns._shares
        assert not loft.downloads._probes._turns._shares
        assert sum(host.open_answers for host in self.hosts.values()) == 0
        for name in loft.cached - {NAME if self.scene.inherited else ""}:
            body = (loft.store.root / "cache" / name).read_bytes()
            assert body == {NAME: BODY, OLD.resource.name: OLD.body}[name]
        for client, outcome in self.outcomes.items():
            self._check_outcome(client, outcome)

    def _check_outcome(self, client: int, outcome: object) -> None:
        unlucky = self.target is not Target.ONE_CLIENT
        match outcome:
            case ResourceUnavailableError():
                assert unlucky
            case Reading(broken=True):
                assert unlucky or self.scene.breaks_off
            case Reading(body=body):
                assert body == BODY[slice(*SPANS[client])]
            case Sighting(size_bytes=size):
                assert size == SIZE
            case _:
                assert outcome == hashlib.sha256(BODY).hexdigest()

    async def _check_it_comes(self, loft: Loft) -> None:
        for host in self.hosts.values():
            host.script, host.files = {}, {WANTED.path: BODY}
        await trio.sleep(60)
        assert (await loft.get(WANTED.resource)).body == BODY
        assert await loft.library.sha256(WANTED.resource) == hashlib.sha256(BODY).hexdigest()
        await land(loft)
        self._check(loft)


@pytest.mark.parametrize("target", Target)
@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_whatever_is_cancelled_at_any_step_nothing_is_left_and_it_comes_through_afterwards(
    tmp_path: Path, no_threads: None, monkeypatch: pytest.MonkeyPatch, scene: Scene, target: Target
) -> None:

    async def perform(root: Path, countdown: Countdown) -> None:
        await Play(root, scene, target, countdown).perform()

    assert play_at_every_step(tmp_path, monkeypatch, perform) >= scene.at_least

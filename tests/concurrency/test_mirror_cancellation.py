"""Cancellation at every step of what the mirror does for a client: nothing is left, and the object comes afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TYPE_CHECKING

import pytest
import trio
from tests.disks import Hasty
from tests.fakes import MISSING, Behaviour, FakeTransport, Pieces, good
from tests.mirrors import NEW, OLD, Got, named, open_gallery, open_gallery_on
from tests.steps import Countdown, own_flights, play_at_every_step

from pkgserver_trio.errors import ResourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.mirrors import Gallery

KEY, PATH = "a", "/a"
STRICT = {"PKGSERVER_MIRROR_STALE_WHILE_REVALIDATE_SECONDS": "0"}


class Target(Enum):
    """What is cancelled."""

    FLIGHTS = auto()
    ONE_CLIENT = auto()


def sent(body: bytes, **how: object) -> Behaviour:
    return replace(good(body), pieces=Pieces(size=len(body) // 3 + 1), **how)  # type: ignore[arg-type] # checked where it is played


def by_method(head: Behaviour, *gets: Behaviour) -> Callable[[], Mapping[tuple[str, str], Behaviour | list[Behaviour]]]:
    return lambda: {("HEAD", PATH): head, ("GET", PATH): list(gets)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Two clients ask for the same; `script` is for the origin, `right` is what they get of the version there is.

    `held`: the mirror has the version before, which is no longer fresh.
    """

    script: Callable[[], Mapping[tuple[str, str], Behaviour | list[Behaviour]]]
    asked: Mapping[str, str] = field(default_factory=dict)
    right: tuple[bytes, ...] = (NEW,)
    held: bool = False
    at_least: int = 40  # steps


SCENES = {
    "fetched": Scene(script=by_method(good(NEW), sent(NEW))),
    "no HEAD": Scene(script=by_method(replace(MISSING, status=405), sent(NEW))),
    "overwritten before it is fetched": Scene(
        script=lambda: {
            ("HEAD", PATH): [good(OLD), good(NEW)],
            ("GET", PATH): [replace(MISSING, status=412), sent(NEW)],
        }
    ),
    "another version than the one that is held": Scene(script=by_method(good(NEW), sent(NEW)), held=True),
    "the version that is held": Scene(script=by_method(good(OLD), sent(OLD)), right=(OLD,), held=True, at_least=15),
    "a part, passed through": Scene(
        script=by_method(good(NEW), sent(NEW)), asked={"Range": "bytes=10-2009"}, right=(NEW[10:2010],), at_least=20
    ),
    "not to be kept": Scene(
        script=by_method(*(replace(sent(NEW), headers={"cache-control": "no-store"}) for _ in range(2)))
    ),
}


class Play:
    """One performance of a scene."""

    def __init__(self, root: Path, scene: Scene, target: Target, countdown: Countdown) -> None:
        self.root, self.scene, self.target, self.countdown = root, scene, target, countdown
        self.origin = FakeTransport({PATH: OLD})
        self.outcomes: list[Got] = []
        self.first_client = trio.CancelScope()

    async def perform(self) -> None:
        over = trio.Event()
        async with trio.open_nursery() as owner:
            flights = await owner.start(own_flights, over)
            try:
                async with open_gallery_on(flights, self.root, self.origin, **STRICT) as gallery:
                    await self._be_clients(gallery, flights.cancel_scope)
                    self._check(gallery)
                    if self.target is Target.ONE_CLIENT:
                        await self._check_it_comes(gallery)
            finally:
                over.set()
        if self.target is Target.FLIGHTS:
            async with open_gallery(self.root, self.origin, **STRICT) as next_gallery:
                await self._check_it_comes(next_gallery)

    async def _be_clients(self, gallery: Gallery, flights: trio.CancelScope) -> None:
        if self.scene.held:
            await gallery.get(KEY)
            await trio.sleep(101)
        self.origin.script = self.scene.script()
        scope = flights if self.target is Target.FLIGHTS else self.first_client
        self.countdown.strike = scope.cancel
        try:
            async with trio.open_nursery() as clients:
                clients.start_soon(self._be_client, gallery, self.first_client)
                clients.start_soon(self._be_client, gallery, trio.CancelScope())
            await trio.sleep(60)  # what goes on without clients
        finally:
            self.countdown.strike = None

    async def _be_client(self, gallery: Gallery, scope: trio.CancelScope) -> None:
        with scope:
            try:
                self.outcomes.append(await gallery.get(KEY, **self.scene.asked))
            except ResourceUnavailableError:
                assert self.target is not Target.ONE_CLIENT

    def _check(self, gallery: Gallery) -> None:
        gallery.assert_no_leftovers()
        versions = gallery.mirror.versions
        assert len(versions._probes) == 0
        assert versions.admission._waiting.total() == 0
        assert versions._turns.total.borrowed_tokens == 0
        assert not versions._turns._shares
        assert not gallery.mirror._passages
        for got in self.outcomes:
            assert any(right.startswith(got.body) if got.broken else right == got.body for right in self.scene.right)
            assert not got.broken or self.target is not Target.ONE_CLIENT

    async def _check_it_comes(self, gallery: Gallery) -> None:
        self.origin.script, self.origin.files = {}, {PATH: self.scene.right[0] if not self.scene.asked else NEW}
        await trio.sleep(101)
        assert (await gallery.get(KEY)).body == self.origin.files[PATH]
        assert gallery.mirror.versions.records.get(named(KEY)) is not None
        self._check(gallery)


@pytest.mark.parametrize("target", Target)
@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_whatever_is_cancelled_at_any_step_nothing_is_left_and_the_object_comes_afterwards(
    tmp_path: Path, no_threads: None, monkeypatch: pytest.MonkeyPatch, scene: Scene, target: Target
) -> None:
    monkeypatch.setattr("pkgserver_trio.mirror_building.Disk", Hasty)

    async def perform(root: Path, countdown: Countdown) -> None:
        await Play(root, scene, target, countdown).perform()

    assert play_at_every_step(tmp_path, monkeypatch, perform) >= scene.at_least

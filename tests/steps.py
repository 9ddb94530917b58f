"""Steps of tasks: a scene is played anew with something happening before its first one, its second one, and so on."""

from __future__ import annotations

import shutil
from itertools import count
from typing import TYPE_CHECKING

import trio
from tests.disks import open_files
from trio.testing import MockClock

from pkgserver_trio.upstream.http_client import trust

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    import pytest


class Countdown(trio.abc.Instrument):
    """Counts the steps of all tasks; calls `strike` before the one of the number `at`."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.steps = 0
        self.strike: Callable[[], None] | None = None

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.strike is None:
            return
        self.steps += 1
        if self.steps == self.at:
            self.strike()


async def own_flights(over: trio.Event, *, task_status: trio.TaskStatus[trio.Nursery]) -> None:
    """Own flights, cancelled or not, until all is `over`, as the server does."""
    async with trio.open_nursery() as flights:
        task_status.started(flights)
        with trio.CancelScope(shield=True):
            await over.wait()


def play_at_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, perform: Callable[[Path, Countdown], Awaitable[None]]
) -> int:
    """Play a scene with each step struck in turn, in a new folder each time, until it ends before; return how often."""
    monkeypatch.setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
    tls = trust(None)
    monkeypatch.setattr("pkgserver_trio.upstream.asking.trust", lambda _: tls)  # slow to make
    for at in count(1):
        root = tmp_path / str(at)
        root.mkdir()
        trio._core._run._r.seed(0)
        countdown = Countdown(at)
        trio.run(perform, root, countdown, clock=MockClock(autojump_threshold=0), instruments=[countdown])
        assert open_files(root) == []
        shutil.rmtree(root)
        if countdown.steps < at:
            break
    print(f"{at} steps")  # noqa: T201 # for whoever wonders: pytest shows it on demand
    return at

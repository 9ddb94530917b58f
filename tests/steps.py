"""Steps of tasks: a scene is played anew with something happening before its first one, its second one, and so on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable


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

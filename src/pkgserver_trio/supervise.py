"""The watchdog: a loop that does not come round any more ends the process, so that another can do better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

import structlog
import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from pkgserver_trio.settings import Settings

HANG_SECONDS: Final = 20 * 60
_LOOK_SECONDS: Final = 10
#: The longest turn of a poll, in requests: a list, whether there are others, and another list.
_REQUESTS: Final = 3


class HangError(Exception):
    """A loop hangs; the text says which."""


class Turns:
    """Since when each loop has been in the turn that it is in, in Trio's seconds.

    A turn is over when whatever it asked for has been answered, has failed, or was given up in time.
    """

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def begin(self, name: str) -> None:
        """Note that a turn of the loop called `name` begins, and the one before it, if any, has ended."""
        self._since[name] = trio.current_time()

    def leave(self, name: str) -> None:
        """Note that the loop is over, as it is meant to be."""
        self._since.pop(name, None)

    def excuse(self, seconds: float) -> None:
        """Take so many seconds out of every turn: they passed while nothing could run."""
        now = trio.current_time()
        self._since = {name: min(since + seconds, now) for name, since in self._since.items()}

    def longest(self) -> tuple[str, float]:
        """Return the loop whose turn is the longest, and how long that is, in seconds; an empty name without any."""
        if not self._since:
            return "", 0.0
        name = min(self._since, key=self._since.__getitem__)
        return name, trio.current_time() - self._since[name]


def patience_seconds(settings: Settings) -> float:
    """Return how long a turn of the registry loop may take: always longer than one in which every server is silent."""
    request = settings.connect_seconds + settings.head_seconds + settings.body_seconds
    return max(HANG_SECONDS, 2 * (settings.registry_update_period_seconds + _REQUESTS * request))


async def watch(turns: Turns, *, patience_seconds: float, last_resort: Callable[[], None]) -> NoReturn:
    """Raise HangError once a turn takes longer than `patience_seconds`, in which the process could run.

    `last_resort` is called before that: what hangs may not let itself be cancelled.
    """
    while True:
        due = trio.current_time() + _LOOK_SECONDS
        await trio.sleep_until(due)
        late = trio.current_time() - due
        if late > _LOOK_SECONDS:
            turns.excuse(late)  # the machine slept, or the process was stopped
        name, seconds = turns.longest()
        if seconds > patience_seconds:
            structlog.get_logger().error("watchdog: a loop hangs, the server ends", loop=name, seconds=round(seconds))
            last_resort()
            raise HangError(f"{name} has not come round for {seconds:.0f} s")

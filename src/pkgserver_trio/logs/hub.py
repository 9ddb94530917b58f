"""Log lines for those who watch the log live; the log itself goes on as it is, whatever becomes of them.

1. Nobody who logs waits for a watcher: one that does not keep up loses lines, and is told how many.
2. What is below the log's own level is made only while somebody watches that level.
3. Lines come from any thread; all else happens on Trio's.
4. One event is one line here, a traceback too.
5. Lines go out together with those that come right after them: many watchers of a busy server cost it little.
"""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

import structlog
import trio

from pkgserver_trio.logs.text import render_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from structlog.typing import BindableLogger, EventDict, Processor

#: Each holds lines. And one that vanished without a word is noticed only when there is something to send to it.
MAX_WATCHERS = 64
#: Lines that wait for a watcher; what comes while it is so far behind is lost to it.
MAX_WAITING = 1000
#: Too short to be seen by who watches, and long enough for many lines (rule 5).
_GATHER_SECONDS = 0.05
#: How long a watcher may take for its last lines when the server stops.
_LAST_LINES_SECONDS = 1
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
#: Above all levels.
_NOBODY = logging.CRITICAL + 1


class _Line:
    """One event, made a text once for all who want the same form."""

    def __init__(self, event: EventDict) -> None:
        self._event = event
        self._texts: dict[bool, str] = {}

    def text(self, *, colour: bool) -> str:
        if colour not in self._texts:
            rendered = render_text(self._event, colours=colour)
            self._texts[colour] = rendered.replace("\n", "") + "\n"  # rule 4: a traceback's lines have their margin
        return self._texts[colour]


class Watcher:
    """One who watches, from `level` up, in colour or not; `cut` ends his connection when he does not let go of it."""

    def __init__(self, level: int, *, colour: bool, cut: Callable[[], None]) -> None:
        self.level = level
        self.cut = cut
        self._colour = colour
        self._token = trio.lowlevel.current_trio_token()
        self._lock = threading.Lock()
        self._lines: list[_Line] = []
        self._lost = 0
        self._news = trio.Event()
        self._ended = False

    def offer(self, line: _Line) -> None:
        """Give him a line, or count it as lost (rule 1)."""
        with self._lock:
            if len(self._lines) < MAX_WAITING:
                self._lines.append(line)
            else:
                self._lost += 1
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._wake, idempotent=True)

    def _wake(self) -> None:
        self._news.set()

    def end(self) -> None:
        """Let him have what waits for him, and no more."""
        self._ended = True
        self._wake()

    async def take(self) -> str:
        """Return the next lines soon after there are any; empty at the end."""
        while not self._lines and not self._ended:
            self._news = trio.Event()
            await self._news.wait()
        if not self._ended:
            await trio.sleep(_GATHER_SECONDS)
        with self._lock:
            lines, self._lines = self._lines, []
            lost, self._lost = self._lost, 0
        text = "".join(line.text(colour=self._colour) for line in lines)
        return text + (f"{lost} lines are missing here: they came faster than they were taken\n" if lost else "")


class LogHub:
    """Everybody who watches the log."""

    def __init__(self) -> None:
        self.level = _NOBODY  # the lowest that anybody watches
        self._watchers: tuple[Watcher, ...] = ()  # replaced as a whole: other threads go through it (rule 3)
        self._closed = False

    @contextmanager
    def watch(self, level: str, *, colour: bool, cut: Callable[[], None]) -> Iterator[Watcher]:
        """Watch what is logged from now on, from `level` up; one too many has the one cut who has watched longest."""
        if len(self._watchers) == MAX_WATCHERS:
            longest = self._watchers[0]
            self._leave(longest)
            longest.end()
            longest.cut()
        watcher = Watcher(_LEVELS[level], colour=colour, cut=cut)
        if self._closed:
            watcher.end()
        self._have((*self._watchers, watcher))
        try:
            yield watcher
        finally:
            self._leave(watcher)

    def _leave(self, watcher: Watcher) -> None:
        self._have(tuple(other for other in self._watchers if other is not watcher))

    def _have(self, watchers: tuple[Watcher, ...]) -> None:
        self._watchers = watchers
        self.level = min((watcher.level for watcher in watchers), default=_NOBODY)

    def tap(self, own_level: int) -> Processor:
        """Return what shows each finished event to those who watch, and drops it if it is below the log's own level."""

        def show(_logger: object, _method: str, event: EventDict) -> EventDict:
            level = _LEVELS.get(event["level"], logging.CRITICAL)  # libraries make levels of their own
            watchers = [watcher for watcher in self._watchers if watcher.level <= level]
            if watchers:
                # what structlog hands from one of its processors to another begins so
                line = _Line({key: value for key, value in event.items() if not key.startswith("_")})
                for watcher in watchers:
                    watcher.offer(line)
            if level < own_level:
                raise structlog.DropEvent
            return event

        return show

    async def close(self) -> None:
        """End every watch: with the last lines for those who take them at once, by force for the others."""
        self._closed = True
        for watcher in self._watchers:
            watcher.end()
        await trio.sleep(_LAST_LINES_SECONDS)
        for watcher in self._watchers:
            watcher.cut()


def logger_class(hub: LogHub, own_level: int) -> type[BindableLogger]:
    """Return the class of loggers whose calls below `own_level` do nothing while nobody watches them (rule 2)."""
    every = structlog.make_filtering_bound_logger(logging.DEBUG)

    def gated(name: str, level: int) -> Callable[..., Any]:
        log = getattr(every, name)

        def log_if_watched(self: object, event: str, *args: object, **values: object) -> object:
            return log(self, event, *args, **values) if level >= hub.level else None

        return log_if_watched

    methods = {name: gated(name, level) for name, level in _LEVELS.items() if level < own_level}
    return cast("type[BindableLogger]", type("WatchedLogger", (every,), methods))

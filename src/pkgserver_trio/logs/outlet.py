"""Where log lines leave the process: a queue, and a thread that empties it to one place.

1. Nobody waits for a line to be written: a place that is slow, full or broken costs the lines that find no room, and
   nothing else. How many they were is said when it goes well again.
2. The queue is bounded in bytes, not in lines.
3. At the end what is queued is written, if that takes no longer than a moment. The threads do not hold the process up.
"""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Protocol

import structlog

from pkgserver_trio.logs.folder import write_all

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_QUEUED_BYTES = 8 * 1024 * 1024
#: What a line takes in memory beside its text.
_LINE_BYTES = 64
#: How long lines are gathered: waking a thread for each costs more than writing it.
_GATHER_SECONDS = 0.02
_CLOSE_SECONDS = 2
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Sink(Protocol):
    """Where an outlet leads to; `name` says so to people. Used by one thread only."""

    name: str

    def write(self, lines: bytes) -> None:
        """Write all of `lines`. Raises OSError."""

    def close(self) -> None:
        """Let go of what is open; the next `write` opens it again."""


class StandardOutput:
    """Whatever reads the process's output, at `fd`."""

    name = "standard output"

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._torn = False

    def write(self, lines: bytes) -> None:
        """Write all of `lines`, from the start of a line. Raises OSError."""
        torn, self._torn = self._torn, True
        write_all(self._fd, b"\n" + lines if torn else lines)
        self._torn = False

    def close(self) -> None:
        """Leave it open: it is the process's."""


class Outlet:
    """A queue of lines, and the thread that writes them to `sink`; `strip_colours` before that."""

    def __init__(self, sink: Sink, *, strip_colours: bool = False, max_queued_bytes: int = MAX_QUEUED_BYTES) -> None:
        self._sink = sink
        self._strip_colours = strip_colours
        self._max_queued_bytes = max_queued_bytes
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._queued_bytes = 0  # what is being written included
        self._lost = 0
        self._failing = False
        self._reopening = False
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"log to {sink.name}", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Queue a line, which ends in a newline, or lose it. Returns at once; from any thread."""
        size = len(line) + _LINE_BYTES
        with self._changed:
            if self._queued_bytes + size > self._max_queued_bytes:
                self._lost += 1
                return
            self._queued_bytes += size
            self._lines.append(line)
            if len(self._lines) == 1:
                self._changed.notify()

    def reopen(self) -> None:
        """Have the sink opened anew: its file may have been moved away."""
        with self._changed:
            self._reopening = True
            self._changed.notify()

    def close(self) -> None:
        """Write what is queued, and end; give up after a moment (rule 3)."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        while (lines := self._take()) is not None:
            error = self._write(lines)
            with self._changed:
                self._queued_bytes -= sum(map(len, lines)) + _LINE_BYTES * len(lines)
            if error is not None:
                self._fail(len(lines), error)
            else:
                self._recover()
        self._sink.close()

    def _take(self) -> list[str] | None:
        """Return the next lines, None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._reopening or self._closing)
            self._changed.wait_for(lambda: self._reopening or self._closing, _GATHER_SECONDS)
            reopening, self._reopening = self._reopening, False
            ended = self._closing and not self._lines
            lines, self._lines = self._lines, []
        if reopening:
            self._sink.close()  # not under the lock: it may block, and `put` must not
        return None if ended else lines

    def _write(self, lines: list[str]) -> OSError | None:
        text = "".join(lines)
        if self._strip_colours:
            text = _COLOUR.sub("", text)
        try:
            self._sink.write(text.encode("ascii", "backslashreplace"))
        except OSError as error:
            return error
        return None

    def _fail(self, count: int, error: OSError) -> None:
        with self._changed:
            self._lost += count
            told, self._failing = self._failing, True
        if not told:
            structlog.get_logger().warning("the log cannot be written", to=self._sink.name, error=error.strerror)

    def _recover(self) -> None:
        with self._changed:
            self._failing = False
            if self._queued_bytes > self._max_queued_bytes / 2:
                return  # what is said of the loss could be lost itself
            lost, self._lost = self._lost, 0
        if lost:
            structlog.get_logger().warning("log lines were lost", to=self._sink.name, lines=lost)


def spread(outlets: list[Outlet]) -> Callable[[str], None]:
    """Return what puts a line into each of the outlets."""

    def put(line: str) -> None:
        for outlet in outlets:
            outlet.put(line)

    return put

"""Modification times for downloads: no two downloads of one resource get the same one, whichever process began them.

Two downloads may differ in bytes, and the time is most of what their validators are made of (RFC 9110, 8.8.1). Times
follow the clock, but run ahead of it where a resource is downloaded more than once a second. So a process that was
killed may have given times that are still to come: how far it could have come is noted on disk before a time is given.
A note is there after kill -9; that a power cut can lose the last one does no harm while starting again takes longer
than times were ahead.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pkgserver_trio.resource import Resource
    from pkgserver_trio.storage.disk import Disk

#: Of how many resources the last time is remembered. It matters only until the clock has passed it.
MOST: Final = 10_000
#: How far ahead of need the note is, in seconds: it is written once for all downloads that begin meanwhile.
STRIDE_SECONDS: Final = 10
#: A note that is farther ahead comes of a clock that was wrong, whose times do not come again so soon.
MOST_AHEAD_SECONDS: Final = 86_400
_WIDTH: Final = 20


class Mtimes:
    """Gives out times in seconds since the epoch; the note is the file `path`. Raises OSError when it cannot be read.

    `wall` tells the time in seconds since the epoch; it may jump.
    """

    def __init__(self, path: Path, disk: Disk, wall: Callable[[], float] = time.time) -> None:
        self._path, self._disk, self._wall = path, disk, wall
        self._last: dict[Resource, int] = {}  # the one given last is the last of it
        now = int(wall())
        noted = _read(path)
        self._noted = noted if noted <= now + MOST_AHEAD_SECONDS else 0
        self._first = max(now, self._noted) + 1

    def fresh(self, resource: Resource) -> int:
        """Return a time that no earlier download of the resource had. Never fails, never waits for the network."""
        fresh = max(int(self._wall()), self._first, self._last.pop(resource, 0) + 1)
        self._last[resource] = fresh
        if len(self._last) > MOST:
            del self._last[next(iter(self._last))]
        if fresh > self._noted:
            self._note(fresh + STRIDE_SECONDS)
        return fresh

    def _note(self, seconds: int) -> None:
        self._noted = seconds
        try:
            self._disk.overwrite(self._path, b"%0*d\n" % (_WIDTH, seconds))
        except OSError as error:  # downloads matter more, and only who is killed needs the note
            structlog.get_logger().warning("cannot note modification times", error=error.strerror)


def _read(path: Path) -> int:
    """Return what is noted; 0 where nothing is."""
    try:
        text = path.read_bytes().strip()
    except FileNotFoundError:
        return 0
    return int(text) if text.isdigit() and len(text) <= _WIDTH else 0

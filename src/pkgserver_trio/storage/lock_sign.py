"""What the owner of a store writes into its lock file: who it is, and until when it is there, once it was told to end.

A server that drains accepts no connection, so that its health check would take it for one that hangs; this tells them
apart. Its end is a time of the monotonic clock, which all processes of a host share, and which nobody sets. Read by a
process that must not take long: nothing heavy is imported here.
"""

from __future__ import annotations

import fcntl
import math
import os
import re
import socket
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

#: The lock file, in the storage root.
LOCK_NAME: Final = ".lock"
_LONGEST: Final = 500
_SIGN: Final = re.compile(r"host (.*), pid \d+, started \S+, gone by (\d+) s after the host's start\n")


def sign_of(started: datetime, gone_by: int | None = None) -> str:
    """Return the line of this process, with what `latest_end` returned when it was told to end."""
    end = "" if gone_by is None else f", gone by {gone_by} s after the host's start"
    who = f"host {socket.gethostname()}, pid {os.getpid()}"
    return f"{who}, started {started.isoformat(timespec='seconds')}{end}\n"


def latest_end(seconds: float) -> int:
    """Return when a server that was told to end now, and has `seconds` for it, is gone for sure: monotonic seconds."""
    return math.ceil(time.monotonic() + seconds) + 1  # if it has no time at all, it can be asked nevertheless


def is_draining(path: Path) -> bool:
    """Tell whether a living server of this host owns the lock file `path`, was told to end, and still has time for it.

    What one that was killed has left says nothing: its lock went with it.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return _says_so(os.pread(fd, _LONGEST, 0)) and _is_locked(fd)
    finally:
        os.close(fd)


def _says_so(content: bytes) -> bool:
    match = _SIGN.fullmatch(content.decode("utf-8", "replace"))
    return match is not None and match[1] == socket.gethostname() and time.monotonic() < int(match[2])


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False

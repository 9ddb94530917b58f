"""What the files of the log are called, one for each hour (UTC), and what is to be done with the finished ones. Pure.

The names are PkgServer.jl's, so the files that it left are tended like our own. They sort by time.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

KEPT_DAYS: Final = 10
COMPRESSED: Final = ".gz"
#: What a file is called while it is being compressed.
UNFINISHED: Final = ".new"
_FORMAT: Final = "%Y-%m-%d-%H-pkgserver.log"
_NAME: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9]{2}-pkgserver\.log)(\.gz|\.gz\.new)?")
_DAY_SECONDS: Final = 86400


class Chores(NamedTuple):
    """Names of files: those to compress, and those that are too old to keep."""

    compress: list[str]
    remove: list[str]


def log_name(seconds: float) -> str:
    """Return the name of the file that is written at that time, in Unix seconds."""
    return time.strftime(_FORMAT, time.gmtime(seconds))


def chores(names: Iterable[str], now: float) -> Chores:
    """Return what is to be done at `now`, in Unix seconds, in a folder with these names; others' files are let be."""
    current, oldest = log_name(now), log_name(now - KEPT_DAYS * _DAY_SECONDS)
    todo = Chores([], [])
    for name in sorted(names):
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        if match[1] < oldest:
            todo.remove.append(name)
        elif match[2] is None and name < current:
            todo.compress.append(name)
    return todo

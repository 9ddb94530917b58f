"""One log of nginx, open: how far it was read, and how it is cut. Every method may block and may raise OSError.

1. The position is behind a whole line. An unfinished one is read again when there is more of it, so nothing is carried.
2. The mark is what stands before the position. The times in it make it unlike any other place of any log: as long as it
   stands there, what was read is what is in the file. Else this is another file, or was truncated: all in it is new.
3. Only a file that was read to its end is cut, and nginx, which appends, then goes on at its new beginning. What nginx
   writes in the few microseconds between the look at the size and the cut is lost; no system call cuts on condition.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from pkgserver_trio.hits.bookmarks import Bookmark

if TYPE_CHECKING:
    from pathlib import Path

#: Some 600 lines: what is read, parsed and noted without letting others run.
PIECE_BYTES = 64 * 1024
_MARK_BYTES = 256


class NoHitLogError(OSError):
    """There is something at the path of a log that cannot be one: a folder, a pipe, a terminal."""


class HitFile:
    """An open log; `bookmark` tells how far it was read, if it is the file in which it was set.

    Its reader counts lines as `well_formed` or `garbled`, and notes when it heard of it last.
    """

    def __init__(self, path: Path, bookmark: Bookmark) -> None:
        self._fd = open_log(path, os.O_RDONLY)
        self.identity = identity_of(os.fstat(self._fd))
        self.bookmark = bookmark
        self.well_formed = self.garbled = 0
        self.heard_seconds = 0.0

    def read_lines(self) -> bytes | None:
        """Return the next whole lines, up to 64 KiB, or None at the end, be there an unfinished line or not."""
        if not self._stands(self.bookmark):
            self.bookmark = Bookmark()
        offset, mark = self.bookmark
        piece = os.pread(self._fd, PIECE_BYTES, offset)
        end = piece.rfind(b"\n") + 1
        if not end and len(piece) == PIECE_BYTES:
            end = PIECE_BYTES  # no line of ours: it is let pass in parts, the last of which is none either
        if not end:
            return None
        lines = piece[:end]
        self.bookmark = Bookmark(offset + end, (mark + lines)[-_MARK_BYTES:])
        return lines.partition(b"\n")[2] if mark and not mark.endswith(b"\n") else lines

    def _stands(self, bookmark: Bookmark) -> bool:
        """Tell whether the mark is where it was set (rule 2)."""
        offset, mark = bookmark
        return os.pread(self._fd, len(mark), offset - len(mark)) == mark

    @property
    def is_ours(self) -> bool:
        """Tell whether most of its lines are what our nginx writes: what else it may be, it is not ours to cut."""
        return self.well_formed > self.garbled

    def cut(self, path: Path) -> bool:
        """Truncate the file if it is still at `path` and was read to its end (rule 3); tell whether it was."""
        fd = open_log(path, os.O_WRONLY)
        try:
            now = os.fstat(fd)
            if identity_of(now) != self.identity or now.st_size != self.bookmark.offset:
                return False
            os.ftruncate(fd, 0)
        finally:
            os.close(fd)
        self.bookmark = Bookmark()
        return True

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


def identity_of(found: os.stat_result) -> tuple[int, int]:
    """Return what a file keeps when it is renamed: its device and inode."""
    return found.st_dev, found.st_ino


def open_log(path: Path, flags: int) -> int:
    """Return a descriptor of a regular file. Raises NoHitLogError, OSError."""
    check_hit_log(path.stat())  # before it is opened: for a pipe or a device that is an act
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        check_hit_log(os.fstat(fd))
    except NoHitLogError:
        os.close(fd)
        raise
    return fd


def check_hit_log(found: os.stat_result) -> None:
    """Raise NoHitLogError if that cannot be a log: it could not be read twice, or be cut."""
    if not stat.S_ISREG(found.st_mode):
        kind = "folder" if stat.S_ISDIR(found.st_mode) else "pipe, socket or device"
        raise NoHitLogError(None, f"a {kind}, expected a file that nginx writes")

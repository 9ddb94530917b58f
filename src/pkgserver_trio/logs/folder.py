"""The log on disk: a file for each hour; the finished ones compressed, and removed after some days.

All of it happens outside the event loop: `write` in the thread of an outlet, the compressing in one of its own, since
it takes longer than the lines of that time could wait.
"""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import stat
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from pkgserver_trio.logs.names import COMPRESSED, UNFINISHED, chores, log_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_MODE = 0o640  # the log has the addresses of clients
#: Not through a link, which would be another user's word in a folder that all may write to, nor waiting at a pipe.
_ITSELF = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class LogFolder:
    """Writes to the file of the hour. `wall` gives the time in Unix seconds."""

    def __init__(self, folder: Path, *, wall: Callable[[], float] = time.time) -> None:
        self.name = str(folder)
        self._folder = folder
        self._wall = wall
        self._fd: int | None = None
        self._file = ""
        self._tidying = threading.Thread()

    def write(self, lines: bytes) -> None:
        """Append all of `lines`, or nothing. Raises OSError."""
        file = log_name(self._wall())
        if file != self._file:
            self.close()
        if self._fd is None:
            self._fd = self._open(file)
            self._file = file
        end = os.fstat(self._fd).st_size
        try:
            write_all(self._fd, lines)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, end)
            raise

    def close(self) -> None:
        """Let go of the file: the next line goes to whatever has its name then."""
        fd, self._fd = self._fd, None
        if fd is not None:
            with suppress(OSError):  # it is let go of all the same
                os.close(fd)

    def _open(self, file: str) -> int:
        self._folder.mkdir(parents=True, exist_ok=True)
        fd = _open_file(self._folder / file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        if not self._tidying.is_alive():
            self._tidying = threading.Thread(target=tidy, args=(self._folder, self._wall()), daemon=True)
            with suppress(RuntimeError):  # no room for a thread: the next hour tries again
                self._tidying.start()
        return fd


def write_all(fd: int, lines: bytes) -> None:
    """Write all of `lines` to `fd`. Raises OSError, when some may have been written."""
    rest = memoryview(lines)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _open_file(path: Path, flags: int) -> int:
    """Return a descriptor of the regular file `path` itself. Raises OSError."""
    fd = os.open(path, flags | _ITSELF, _MODE)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return fd


def tidy(folder: Path, now: float) -> None:
    """Compress the files that are finished at `now`, in Unix seconds, and remove the old ones; a failure is logged."""
    failures = list(_tend(folder, now))
    if failures:  # on a full disk there would be a line for every file
        path, error = failures[0]
        words = {"path": str(path), "error": error.strerror, "failures": len(failures)}
        structlog.get_logger().warning("old log files cannot be tended", **words)


def _tend(folder: Path, now: float) -> Iterator[tuple[Path, OSError]]:
    """Do what is to be done, and yield what fails: the rest is done all the same."""
    try:
        todo = chores([entry.name for entry in folder.iterdir()], now)
    except OSError as error:
        yield folder, error
        return
    for chore, names in ((_remove, todo.remove), (_compress, todo.compress)):
        for name in names:
            try:
                chore(folder / name)
            except OSError as error:
                yield folder / name, error


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _compress(path: Path) -> None:
    """Replace a file by its compressed form, whose name it never has in parts: a crash loses nothing."""
    final = path.with_name(path.name + COMPRESSED)
    fresh = final.with_name(final.name + UNFINISHED)
    fresh.unlink(missing_ok=True)
    try:
        with open(_open_file(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as target:
            if final.exists():  # the clock was set back, and the hour logged to twice; members of gzip files add up
                with open(_open_file(final, os.O_RDONLY), "rb") as before:
                    shutil.copyfileobj(before, target)
            with (
                open(_open_file(path, os.O_RDONLY), "rb") as source,
                gzip.GzipFile(path.name.removesuffix(".log"), "wb", 6, target) as packed,
            ):
                shutil.copyfileobj(source, packed, 1024 * 1024)
        fresh.replace(final)
    except OSError:
        fresh.unlink(missing_ok=True)  # half of it would only take room, which may be what is missing
        raise
    path.unlink()

"""The file-system calls of the store, in one place: blocking, plain, and replaceable by a fake.

Every method may block and may raise OSError; callers choose the thread.
"""

from __future__ import annotations

import contextlib
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from pkgserver_trio.trouble import Trouble, trouble_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class FileStat:
    """What the store needs to know of a file: its size in bytes, its times in ns since the epoch, and which it is."""

    size_bytes: int
    mtime_ns: int
    atime_ns: int
    device: int
    inode: int

    @classmethod
    def of(cls, stat: os.stat_result) -> FileStat:
        """Keep what matters of an `os.stat` answer."""
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_atime_ns, stat.st_dev, stat.st_ino)

    @property
    def identity(self) -> tuple[int, int, int, int]:
        """What two stats of one file share as long as nobody writes to it."""
        return self.device, self.inode, self.size_bytes, self.mtime_ns


def warn_of(error: OSError) -> None:
    """Log what is left out of a listing, but not what only vanished: neither can be served."""
    if not isinstance(error, FileNotFoundError):
        structlog.get_logger().warning("left out of the cache", path=str(error.filename), error=error.strerror)


class Disk:
    """The real file system."""

    def open_for_reading(self, path: Path) -> int:
        """Return a file descriptor; FileNotFoundError when nothing is there."""
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would be waited for

    def create(self, path: Path) -> int:
        """Create a new file, readable by other users (nginx), and return its descriptor."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)

    def stat(self, fd: int) -> FileStat:
        """Return size and times of an open file."""
        return FileStat.of(os.fstat(fd))

    def stat_at(self, path: Path) -> FileStat:
        """Return size and times of the file that `path` leads to; FileNotFoundError when nothing is there."""
        return FileStat.of(path.stat())

    def exists(self, path: Path) -> bool:
        """Tell whether the name is taken, be it by a link that leads nowhere."""
        return os.path.lexists(path)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """Read up to `size` bytes at `offset`; fewer only at the end of the file."""
        return os.pread(fd, size, offset)

    def read_if_cached(self, fd: int, size: int, offset: int) -> bytes | None:
        """Read at `offset` what the page cache holds; None when the call would have to wait for the disk."""
        buffer = bytearray(size)
        try:
            count = os.preadv(fd, [buffer], offset, os.RWF_NOWAIT)
        except OSError:  # EAGAIN: not cached. EOPNOTSUPP: a file system without RWF_NOWAIT
            return None
        return bytes(memoryview(buffer)[:count]) if count else None

    def write(self, fd: int, piece: bytes, offset: int) -> None:
        """Write all of `piece` at `offset`."""
        rest = memoryview(piece)
        while rest:
            count = os.pwrite(fd, rest, offset)
            rest, offset = rest[count:], offset + count

    def truncate(self, fd: int, size: int) -> None:
        """Cut the file to `size` bytes."""
        os.ftruncate(fd, size)

    def set_mtime(self, fd: int, mtime_ns: int) -> None:
        """Set the modification time of an open file, keeping its access time."""
        os.utime(fd, ns=(os.fstat(fd).st_atime_ns, mtime_ns))

    def set_atime(self, path: Path, atime_ns: int) -> None:
        """Set the access time of a file, keeping its modification time."""
        fd = self.open_for_reading(path)  # by its name it could be another file between the two calls
        try:
            os.utime(fd, ns=(atime_ns, os.fstat(fd).st_mtime_ns))
        finally:
            os.close(fd)

    def append(self, path: Path, piece: bytes) -> None:
        """Add `piece` to the end of a file, made if need be, durably."""
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self.write(fd, piece, 0)
            os.fsync(fd)
        finally:
            os.close(fd)

    def overwrite(self, path: Path, piece: bytes) -> None:
        """Write `piece` over the start of a file, made if need be: all of it, whenever the process is killed."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self.write(fd, piece, 0)
        finally:
            os.close(fd)

    def fsync(self, fd: int) -> None:
        """Make an open file's content durable."""
        os.fsync(fd)

    def fsync_folder(self, folder: Path) -> None:
        """Make a folder's entries durable."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, source: Path, target: Path) -> None:
        """Move a file within the file system, replacing `target` atomically."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """Remove a file; that it is already gone is no error."""
        path.unlink(missing_ok=True)

    def close(self, fd: int) -> None:
        """Close a descriptor. It is gone even if that fails; what matters of the content was made durable before."""
        with contextlib.suppress(OSError):
            os.close(fd)

    def make_folder(self, folder: Path) -> list[Path]:
        """Create `folder` and what is missing above it; return the folders that gained an entry, innermost last."""
        missing = [path for path in (folder, *folder.parents) if not path.is_dir()]
        folder.mkdir(parents=True, exist_ok=True)
        return [path.parent for path in reversed(missing)]

    def free_bytes(self, folder: Path) -> int:
        """Return the space that is left for an ordinary user on the folder's file system."""
        stat = os.statvfs(folder)
        return stat.f_bavail * stat.f_frsize

    def files(self, folder: Path, unlisted: Callable[[OSError], None] = warn_of) -> Iterator[tuple[str, FileStat]]:
        """Yield path (below `folder`, with `/`) and stat of every regular file.

        `unlisted` is told of every folder and file that vanished meanwhile, or cannot be looked at. Raises OSError only
        when that says nothing of them.
        """
        pending = [(folder, "")]
        while pending:
            current, prefix = pending.pop()
            with _left_out(unlisted), os.scandir(current) as entries:
                for entry in entries:
                    try:  # no context manager: this is for a million files
                        if entry.is_dir(follow_symlinks=False):
                            pending.append((current / entry.name, f"{prefix}{entry.name}/"))
                        elif entry.is_file(follow_symlinks=False):
                            yield f"{prefix}{entry.name}", FileStat.of(entry.stat(follow_symlinks=False))
                    except OSError as error:
                        _leave_out(error, unlisted)


@contextmanager
def _left_out(unlisted: Callable[[OSError], None]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _leave_out(error, unlisted)


def _leave_out(error: OSError, unlisted: Callable[[OSError], None]) -> None:
    if trouble_of(error) is Trouble.SCARCE:
        raise error
    unlisted(error)

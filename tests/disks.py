"""Disks that tell what was done to them, fail on demand, and are as small as a test wants them."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from pkgserver_trio.storage.disk import Disk, warn_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pkgserver_trio.storage.disk import FileStat


class ScriptedDisk(Disk):
    """Notes the calls that write. `failures` maps any call to the errno it fails with, `hooks` to what precedes it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failures: dict[str, int] = {}
        self.hooks: dict[str, Callable[[], None]] = {}

    @property
    def steps(self) -> list[str]:
        """The calls, those in a row of one name as one."""
        return [name for before, name in zip(["", *self.calls], self.calls, strict=False) if name != before]

    def _note(self, name: str) -> None:
        self.calls.append(name)
        self._meet(name)

    def _meet(self, name: str) -> None:
        self.hooks.get(name, lambda: None)()
        if name in self.failures:
            raise OSError(self.failures[name], os.strerror(self.failures[name]))

    def open_for_reading(self, path: Path) -> int:
        self._meet("open_for_reading")
        return super().open_for_reading(path)

    def stat(self, fd: int) -> FileStat:
        self._meet("stat")
        return super().stat(fd)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        self._meet("read")
        return super().read(fd, size, offset)

    def read_if_cached(self, fd: int, size: int, offset: int) -> bytes | None:
        """As if nothing were in the page cache: all reads are one kind."""
        return None

    def files(self, folder: Path, unlisted: Callable[[OSError], None] = warn_of) -> Iterator[tuple[str, FileStat]]:
        self._meet("files")
        return super().files(folder, unlisted)

    def unlink(self, path: Path) -> None:
        self._meet("unlink")
        super().unlink(path)

    def create(self, path: Path) -> int:
        self._note("create")
        return super().create(path)

    def write(self, fd: int, piece: bytes, offset: int) -> None:
        self._note("write")
        super().write(fd, piece, offset)

    def set_mtime(self, fd: int, mtime_ns: int) -> None:
        self._note("set_mtime")
        super().set_mtime(fd, mtime_ns)

    def fsync(self, fd: int) -> None:
        self._note("fsync")
        super().fsync(fd)

    def rename(self, source: Path, target: Path) -> None:
        self._note("rename")
        super().rename(source, target)

    def fsync_folder(self, folder: Path) -> None:
        self._note("fsync_folder")
        super().fsync_folder(folder)

    def free_bytes(self, folder: Path) -> int:
        self._note("free_bytes")
        return super().free_bytes(folder)


class SmallDisk(Disk):
    """As large as ``capacity`` bytes, of which the files below the folder take theirs."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity

    def free_bytes(self, folder: Path) -> int:
        used = sum(stat.size_bytes for name in ("cache", "temp") for _, stat in self.files(folder / name))
        return self.capacity - used


class Hasty(Disk):
    """Does not wait for the disk itself: no power is lost here."""

    def fsync(self, fd: int) -> None:
        pass

    def fsync_folder(self, folder: Path) -> None:
        pass


def rot(path: Path) -> None:
    """Change a byte as a failing disk does: neither size nor time tell of it."""
    stat = path.stat()
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def open_files(folder: Path) -> list[str]:
    """Return which files below `folder` this process holds open, removed ones too; others may open what they like."""
    held = []
    for descriptor in os.listdir("/proc/self/fd"):  # noqa: PTH208 # names, not paths
        with contextlib.suppress(FileNotFoundError):  # somebody else's, and closed
            held.append(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115 # not followed
    return sorted(name for name in held if name.startswith(f"{folder}/"))

"""Disks that tell what was done to them, fail on demand, and are as small as a test wants them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pkgserver_trio.disk import Disk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class ScriptedDisk(Disk):
    """Notes its calls; ``failures`` maps their names to the errno that they fail with, ``hooks`` to what runs first."""

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
        self.hooks.get(name, lambda: None)()
        if name in self.failures:
            raise OSError(self.failures[name], os.strerror(self.failures[name]))

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

"""The files of the cache: what they are called, listed, opened, and moved out; what `store` and `verification` share.

Nothing is remembered here. Every method may block and may raise OSError.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from pkgserver_trio.resource import TARBALLS, Resource
from pkgserver_trio.storage.disk import warn_of
from pkgserver_trio.storage.open_file import OpenFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pkgserver_trio.resource import Kind
    from pkgserver_trio.storage.disk import Disk, FileStat


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file below `cache/`, as it was when it was listed; one whose name is no resource's has none."""

    name: str
    resource: Resource | None
    stat: FileStat


@dataclass(frozen=True, slots=True)
class CacheFiles:
    """The files of these kinds in `cache/`, and those in `quarantine/`, of the storage root `root`."""

    root: Path
    disk: Disk
    kinds: tuple[Kind, ...] = TARBALLS

    def path(self, resource: Resource) -> Path:
        """Return where the resource's file is, or would be."""
        return self.root / "cache" / resource.name

    def list(self, unlisted: Callable[[OSError], None] = warn_of) -> Iterator[FoundFile]:
        """Yield every file in the folders of all kinds, as `Disk.files` does."""
        for kind in self.kinds:
            for below, stat in self.disk.files(self.root / "cache" / kind, unlisted):
                name = f"{kind}/{below}"
                yield FoundFile(name, Resource.parse_name(name), stat)

    def open(self, resource: Resource) -> tuple[OpenFile, FileStat]:
        """Open the resource's file, whatever it holds; FileNotFoundError when there is none."""
        fd = self.disk.open_for_reading(self.path(resource))
        try:
            return OpenFile(self.disk, fd), self.disk.stat(fd)
        except OSError:
            self.disk.close(fd)
            raise

    def holds(self, resource: Resource, stat: FileStat) -> bool:
        """Tell whether the resource's file is still the very one, unchanged, whose stat this was."""
        try:
            return self.disk.stat_at(self.path(resource)).identity == stat.identity
        except FileNotFoundError:
            return False

    def unlink(self, resource: Resource) -> None:
        """Remove the resource's file; that it is already gone is no error."""
        self.disk.unlink(self.path(resource))

    def remove(self, resource: Resource) -> bool:
        """Remove the resource's file durably, and tell whether there was one."""
        path = self.path(resource)
        found = self.disk.exists(path)
        if found:
            self.disk.unlink(path)
            self.disk.fsync_folder(path.parent)
        return found

    def quarantine(self, resource: Resource) -> None:
        """Move the resource's file to `quarantine/`, under a numbered name if an earlier one has its own."""
        wanted = self.root / "quarantine" / resource.name
        names = (wanted.with_name(f"{wanted.name}.{number}") for number in count(1))
        target = wanted
        while self.disk.exists(target):
            target = next(names)
        self.move(self.path(resource), target)

    def move(self, source: Path, target: Path) -> None:
        """Give a file another name, replacing what has it, and make that durable."""
        changed = self.disk.make_folder(target.parent)
        self.disk.rename(source, target)
        for folder in (target.parent, *reversed(changed)):
            self.disk.fsync_folder(folder)

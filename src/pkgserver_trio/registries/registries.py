"""The registries that this server offers, by flavor, and their files in `static/`.

What is published is on disk before it is served, and is served again after a restart with every storage server down.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

import trio

from pkgserver_trio.registries.flavor import Flavor
from pkgserver_trio.registry_list import FLAVORS, listing_name, parse_listing
from pkgserver_trio.resource import Kind, Resource
from pkgserver_trio.supervise import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from pkgserver_trio.registries.publication import Following
    from pkgserver_trio.storage.disk import Disk


class Registries:
    """All flavors that this server offers, and their files in `static/`."""

    def __init__(
        self,
        folder: Path,
        disk: Disk,
        following: Following,
        *,
        welcome: Callable[[Collection[Resource]], None],
        flavorless: bool,
    ) -> None:
        self._folder, self._disk, self._welcome = folder, disk, welcome
        self.turns = Turns()
        flavor = partial(Flavor, following=following, publish=self._publish, turns=self.turns)
        self.updates = 0
        """How often a new head was published since the start."""
        names = ("",) if flavorless else FLAVORS
        self.flavors = {name: flavor(name, listing=self._read(listing_name(name))) for name in names}

    async def run(self) -> None:
        """Keep every flavor up to date, each on its own."""
        self.turns.begin("registries")
        self._welcome(self._heads())
        for flavor in self.flavors.values():
            await trio.to_thread.run_sync(flavor.date_what_is_undated)
        self.turns.leave("registries")
        async with trio.open_nursery() as nursery:
            for flavor in self.flavors.values():
                nursery.start_soon(flavor.run, name=f"registries {flavor.name}")

    def _read(self, name: str) -> bytes | None:
        try:
            listing = (self._folder / name).read_bytes()
        except OSError:
            return None
        return listing if parse_listing(listing).heads else None

    def _heads(self) -> list[Resource]:
        return [head for flavor in self.flavors.values() for head in flavor.heads()]

    async def _publish(self, name: str, listing: bytes) -> None:
        await trio.to_thread.run_sync(self._replace, self._folder / name, listing)
        self.updates += 1
        new = [Resource(Kind.REGISTRY, head, uuid) for uuid, head in parse_listing(listing).heads.items()]
        self._welcome([*self._heads(), *new])

    def _replace(self, path: Path, listing: bytes) -> None:
        fresh = path.with_name(f".{path.name}.new")
        self._disk.make_folder(path.parent)  # it may have vanished
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        fd = self._disk.create(fresh)
        try:
            self._disk.write(fd, listing, 0)
            self._disk.fsync(fd)
        finally:
            self._disk.close(fd)
        self._disk.rename(fresh, path)
        self._disk.fsync_folder(path.parent)

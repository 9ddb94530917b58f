"""The registries that this server offers, by flavor, and their files in `static/`.

What is published is on disk before it is served, and is served again after a restart with every storage server down.
"""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING

import trio

from pkgserver_trio.flavor import Flavor
from pkgserver_trio.ledger import Adoption
from pkgserver_trio.registry_list import FLAVORS, listing_name, parse_listing
from pkgserver_trio.resource import Kind, Resource
from pkgserver_trio.supervise import Turns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence
    from pathlib import Path

    from pkgserver_trio.disk import Disk
    from pkgserver_trio.ledger import Ledger
    from pkgserver_trio.origin_check import OriginVerdict
    from pkgserver_trio.settings import AllRegistries, RegistryChoice
    from pkgserver_trio.upstream import StorageServer


class Registries:
    """All flavors that this server offers, and their files in `static/`."""

    def __init__(
        self,
        folder: Path,
        disk: Disk,
        servers: Sequence[StorageServer],
        hold: Callable[[Resource], Awaitable[None]],
        *,
        welcome: Callable[[Collection[Resource]], None],
        choices: tuple[RegistryChoice, ...] | AllRegistries,
        flavorless: bool,
        period_seconds: float,
        ledger: Ledger,
        rollback_after_seconds: float,
        check_origin: Callable[[str, str], Awaitable[OriginVerdict]],
    ) -> None:
        self._folder, self._disk, self._welcome, self._ledger = folder, disk, welcome, ledger
        self.turns = Turns()
        flavor = partial(
            Flavor,
            servers=servers,
            hold=hold,
            choices=choices,
            period_seconds=period_seconds,
            publish=self._publish,
            complained=set(),
            ledger=ledger,
            rollback_after_seconds=rollback_after_seconds,
            check_origin=check_origin,
            turns=self.turns,
        )
        names = ("",) if flavorless else FLAVORS
        self.flavors = {name: flavor(name, listing=self._read(listing_name(name))) for name in names}

    async def run(self) -> None:
        """Keep every flavor up to date, each on its own."""
        self.turns.begin("registries")
        self._welcome(self._heads())
        await trio.to_thread.run_sync(self._date_what_is_undated)
        self.turns.leave("registries")
        async with trio.open_nursery() as nursery:
            for flavor in self.flavors.values():
                nursery.start_soon(flavor.run, name=f"registries {flavor.name}")

    def _date_what_is_undated(self) -> None:
        """Enter what another server has published, or this one before it had a ledger, as adopted now."""
        for name, flavor in self.flavors.items():
            for uuid, head in flavor.published.items():
                if self._ledger.adoption(name, uuid) is None:
                    with contextlib.suppress(OSError):  # its age stays unknown
                        self._ledger.adopt(name, uuid, Adoption(head, time.time(), None))

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

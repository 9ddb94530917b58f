"""One resource removed from the store: its file, its entry, and what is remembered of it."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
from tests.fakes import FakeTransport
from tests.lofts import LoftPlan, open_loft, read_on, tarball

from pkgserver_trio.errors import StorageFailedError
from pkgserver_trio.storage.disk import Disk
from pkgserver_trio.storage.remedies import Remedies

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lofts import Loft

MADE = tarball("made", 3000)
HOSTS = {MADE.path: MADE.body}


class ReadOnlyDisk(Disk):
    """Removes nothing."""

    def unlink(self, path: Path) -> None:
        if "cache" in path.parts:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        super().unlink(path)


def remembers(loft: Loft) -> bool:
    return loft.store.verified.knows(MADE.resource.name, loft.store.disk.stat_at(loft.store.path(MADE.resource)))


async def test_what_is_removed_is_gone_from_disk_index_and_memory(tmp_path: Path) -> None:
    transport = FakeTransport(HOSTS)
    async with open_loft(tmp_path, {"a": transport}) as loft:
        await loft.library.hold(MADE.resource)
        kept = tmp_path / "kept"
        kept.hardlink_to(loft.store.path(MADE.resource))
        assert remembers(loft)
        reader = await loft.library.obtain(MADE.resource)
        assert await loft.store.remove(MADE.resource)
        assert (loft.cached, len(loft.store.index)) == (set(), 0)
        assert (await read_on(reader)).body == MADE.body
        kept.rename(loft.store.path(MADE.resource))
        assert not remembers(loft)
        assert await loft.store.remove(MADE.resource)
        assert not await loft.store.remove(MADE.resource)
        assert (await loft.get(MADE.resource)).body == MADE.body
        await loft.library.hold(MADE.resource)
        assert loft.cached == {MADE.resource.name}


async def test_what_cannot_be_removed_stays_and_is_served(tmp_path: Path) -> None:
    async with open_loft(tmp_path, {"a": FakeTransport(HOSTS)}, LoftPlan(disk=ReadOnlyDisk())) as loft:
        await loft.library.hold(MADE.resource)
        with pytest.raises(StorageFailedError, match="Read-only file system"):
            await loft.store.remove(MADE.resource)
        assert loft.store.index.trusts(MADE.resource.pack())
        assert remembers(loft)


async def test_a_wrong_file_that_somebody_else_moves_first_is_not_moved(tmp_path: Path) -> None:
    class RacedDisk(Disk):
        def rename(self, source: Path, target: Path) -> None:
            source.unlink()
            super().rename(source, target)

    disk = RacedDisk()
    async with open_loft(tmp_path, {}, LoftPlan(disk=disk)) as loft:
        path = loft.store.path(MADE.resource)
        path.parent.mkdir(parents=True)
        path.write_bytes(b"wrong")
        remedies = Remedies(loft.store.files, loft.store.verified)
        assert not remedies.quarantine(MADE.resource, disk.stat_at(path))
        assert not path.exists()
        for act in (remedies.quarantine, remedies.admit):
            assert not act(MADE.resource, loft.store.disk.stat_at(tmp_path))

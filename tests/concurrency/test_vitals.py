"""The measuring tasks, under a clock that jumps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from tests.lofts import LoftPlan, new_store

from pkgserver_trio.storage.disk import Disk
from pkgserver_trio.storage.verified import Verified
from pkgserver_trio.vitals import watch_vitals

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock


class FailingDisk(Disk):
    """Cannot say what is free when it is asked a second time."""

    def __init__(self) -> None:
        self.asked = 0

    def free_bytes(self, folder: Path) -> int:
        self.asked += 1
        if self.asked == 2:
            raise OSError
        return 1000 + self.asked


async def test_the_delay_of_the_event_loop_and_the_free_disk_are_measured_again_and_again(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    verified = Verified(tmp_path / "verified.sqlite")
    store = new_store(tmp_path, verified, LoftPlan(disk=FailingDisk()))
    statistics = store.statistics
    nursery.start_soon(watch_vitals, statistics, store)
    free = []
    for _ in range(3):
        await trio.sleep(5)
        free.append(statistics.disk_free_bytes)
        await trio.sleep(5)
    assert free == [1001, None, 1003]
    assert statistics.loop_delay_seconds.buckets()[-1][1] >= 100
    late = statistics.loop_delay_seconds.sum
    await trio.sleep(0.1)
    autojump_clock.jump(3)
    await trio.sleep(0.1)
    assert statistics.loop_delay_seconds.sum - late > 2
    verified.close()

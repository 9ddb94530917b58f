"""What has to be measured again and again to be known: how late the event loop is, and how much disk is free."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from pkgserver_trio.statistics import Statistics
    from pkgserver_trio.storage.store import Store

_BEAT_SECONDS = 0.25
_LOOK_SECONDS = 10


async def watch_vitals(statistics: Statistics, store: Store) -> None:
    """Measure for ever."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch_delay, statistics)
        nursery.start_soon(_watch_disk, statistics, store)


async def _watch_delay(statistics: Statistics) -> None:
    while True:
        due = trio.current_time() + _BEAT_SECONDS
        await trio.sleep_until(due)
        statistics.loop_delay_seconds.observe(trio.current_time() - due)


async def _watch_disk(statistics: Statistics, store: Store) -> None:
    """Look in a thread: a disk that hangs must hold up neither a scrape nor the end of the server."""
    while True:
        try:
            statistics.disk_free_bytes = await trio.to_thread.run_sync(
                store.disk.free_bytes, store.root, abandon_on_cancel=True
            )
        except OSError:
            statistics.disk_free_bytes = None
        await trio.sleep(_LOOK_SECONDS)

"""The cache keeper: what the store needs done beside requests. Nobody waits for it, and nothing it does is urgent."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import structlog
import trio

from pkgserver_trio.hits.tail import follow_hit_logs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from pkgserver_trio.library import Library

#: How often access times reach the disk: what kill -9 can lose of them.
_SAVE_SECONDS = 60


async def keep(library: Library, hit_logs: Sequence[Path] = ()) -> None:
    """Rebuild the index, then inspect the suspects, saving access times and holding the space targets all the while.

    `hit_logs` are followed as soon as there is an index in which use can be noted.
    """
    while not await _attempt(library.store.scan):  # noqa: ASYNC110 # the disk's recovery is no event
        await trio.sleep(_SAVE_SECONDS)
    index = library.store.index
    structlog.get_logger().info("cache indexed", files=len(index), size_bytes=index.total_bytes)
    await _attempt(library.store.space.trim)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(library.inspect_suspects)
        if hit_logs:
            bookmarks = library.store.root / "hit-positions.json"
            nursery.start_soon(partial(follow_hit_logs, hit_logs, library.note_hits, bookmarks=bookmarks))
        while True:
            await trio.sleep(_SAVE_SECONDS)
            await _attempt(library.store.save_access_times)
            await _attempt(library.store.space.trim)


async def _attempt(chore: Callable[[], Awaitable[None]]) -> bool:
    """Do one chore, and tell whether it was done: a failing disk is a reason to try again later, none to end."""
    try:
        await chore()
    except OSError:
        structlog.get_logger().exception("the cache cannot be tended")
        return False
    return True

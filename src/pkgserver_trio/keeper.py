"""The cache keeper: what the store needs done beside requests. Nobody waits for it, and nothing it does is urgent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
import trio

if TYPE_CHECKING:
    from pkgserver_trio.library import Library

#: How often access times reach the disk: what kill -9 can lose of them.
_SAVE_SECONDS = 60


async def keep(library: Library) -> None:
    """Rebuild the index, then inspect the suspects, saving access times and holding the space targets all the while."""
    log = structlog.get_logger()
    try:
        await library.store.scan()
    except OSError as error:
        log.error("the cache cannot be read", error=str(error))  # noqa: TRY400 # the cause is all there is to tell
    log.info("cache indexed", files=len(library.store.index), size_bytes=library.store.index.total_bytes)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(library.inspect_suspects)
        while True:
            await trio.sleep(_SAVE_SECONDS)
            await library.store.save_access_times()
            await library.store.trim()

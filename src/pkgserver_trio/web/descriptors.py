"""How file descriptors are shared out, so that who was accepted never lacks one. Pure."""

from __future__ import annotations

from typing import Final

#: The process itself (its log, its store's lock and memory, listeners), and connections that are being refused.
_OWN: Final = 64
#: A client has its connection and the file that it reads.
_PER_CLIENT: Final = 2
#: A download has its file and its connection, besides one to each storage server that it asks.
_PER_DOWNLOAD: Final = 2


def connections_within(limit: int, wanted: int, *, downloads: int, storage_servers: int) -> int:
    """Return how many of the `wanted` client connections fit `limit` descriptors (negative: without limit).

    At most half is kept for downloads and ourselves, and one connection is always possible.
    """
    if limit < 0:
        return wanted
    reserve = min(_OWN + downloads * (_PER_DOWNLOAD + storage_servers), limit // 2)
    return max(1, min(wanted, (limit - reserve) // _PER_CLIENT))

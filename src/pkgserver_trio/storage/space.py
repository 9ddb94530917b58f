"""The space that the cache may take: what is reserved, what is left, and who has to go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
import trio

from pkgserver_trio.resource import Resource

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pkgserver_trio.storage.cache_files import CacheFiles
    from pkgserver_trio.storage.index import Index
    from pkgserver_trio.storage.reservation import Reservation


class Space:
    """The two targets for the cache `files`, in bytes, and the `reservations` that count, too.

    Whoever holds `names` may change what is in `cache/`. A file that cannot be removed keeps its entry, for it still
    takes space; it is tried again after all others.
    """

    def __init__(
        self,
        files: CacheFiles,
        index: Index,
        *,
        keep_free_bytes: int,
        max_cache_bytes: int | None,
    ) -> None:
        self.keep_free_bytes = keep_free_bytes
        self.max_cache_bytes = max_cache_bytes
        self._files = files
        self._index = index
        self.reservations: set[Reservation] = set()
        self.names = trio.Lock()

    async def promise(self, reservation: Reservation, size: int) -> bool:
        """Keep `size` bytes in all for the reservation, and evict nothing yet; False if they cannot be had.

        What is promised is promised to nobody else. Raises OSError.
        """
        async with self.names:
            size = max(size, reservation.reserved_bytes)
            if not self._can_have(size - reservation.promised_bytes, await self._free_bytes()):
                return False
            reservation.promised_bytes = size
            return True

    async def claim(self, reservation: Reservation, size: int) -> bool:
        """Make `size` bytes in all belong to the reservation, evicting others; False if they cannot.

        Nothing is evicted when even all that may be evicted would not make room. Raises OSError.
        """
        async with self.names:
            free = await self._free_bytes()
            promised = max(size, reservation.promised_bytes)
            if not self._can_have(promised - reservation.promised_bytes, free):
                return False
            kept = [(r.reserved_bytes, r.written_bytes) for r in self.reservations]
            if not await self._evict(self._excess(kept, size - reservation.reserved_bytes, free)):
                return False
            reservation.reserved_bytes, reservation.promised_bytes = size, promised
            return True

    async def trim(self) -> None:
        """Evict until the targets hold again, as far as files can be removed. Raises OSError."""
        async with self.names:
            kept = [(r.reserved_bytes, r.written_bytes) for r in self.reservations]
            await self._evict(self._excess(kept, 0, await self._free_bytes()))

    async def _free_bytes(self) -> int:
        return await trio.to_thread.run_sync(self._files.disk.free_bytes, self._files.root)

    def _can_have(self, more_bytes: int, free: int) -> bool:
        """Tell whether so much could be promised besides what is."""
        kept = [(r.promised_bytes, r.written_bytes) for r in self.reservations]
        return self._excess(kept, more_bytes, free) <= self._index.evictable_bytes

    def _excess(self, kept: Collection[tuple[int, int]], more_bytes: int, free: int) -> int:
        """Return by how much the targets are missed, with what is `kept`, and how much of each is written, and more."""
        unwritten = sum(size - min(written, size) for size, written in kept)
        excess = self.keep_free_bytes + unwritten + more_bytes - free
        if self.max_cache_bytes is not None:
            total = self._index.total_bytes + sum(size for size, _ in kept)
            excess = max(excess, total + more_bytes - self.max_cache_bytes)
        return excess

    async def _evict(self, bytes_to_free: int) -> bool:
        """Remove the files used longest ago; False when one of them stayed."""
        victims = self._index.oldest_worth(bytes_to_free)
        if not victims:
            return True
        stuck = await trio.to_thread.run_sync(self._unlink, victims)
        for key in stuck:
            self._index.postpone(key)
        for key in set(victims) - stuck:
            self._index.evict(key)
        return not stuck

    def _unlink(self, victims: Iterable[int]) -> set[int]:
        """Remove files; return those that could not be."""
        stuck: dict[int, str | None] = {}
        for key in victims:
            try:
                self._files.unlink(Resource.unpack(key))
            except OSError as error:
                stuck[key] = error.strerror
        for key, reason in list(stuck.items())[:1]:  # on a read-only disk there would be a line for every file
            name = Resource.unpack(key).name
            structlog.get_logger().warning("cannot evict", files=len(stuck), resource=name, error=reason)
        return set(stuck)

"""Which entry was used longest ago: pure bookkeeping of keys and sizes, for a million entries.

1. A plain dict from key to size is all there is: its order is the age, oldest first, and using an entry moves it to
   the end. An ``OrderedDict`` would take five times the memory.
2. ``total_bytes`` is always the sum of the sizes.
3. Nothing here locks or waits: one task at a time, on one thread.
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Lru(Generic[K]):
    """Keys with their sizes in bytes, in order of last use."""

    def __init__(self) -> None:
        self._sizes: dict[K, int] = {}
        self._total_bytes = 0

    @property
    def total_bytes(self) -> int:
        """The sum of the sizes of all entries."""
        return self._total_bytes

    def __len__(self) -> int:
        return len(self._sizes)

    def __contains__(self, key: object) -> bool:
        return key in self._sizes

    def size_of(self, key: K) -> int | None:
        """Return the size in bytes, or None when there is no such entry; this is no use of it."""
        return self._sizes.get(key)

    def add(self, key: K, size: int) -> None:
        """Make ``key`` the newest entry, of ``size`` bytes, whether or not it was present."""
        self._total_bytes += size - self._sizes.pop(key, 0)
        self._sizes[key] = size

    def touch(self, key: K) -> bool:
        """Make ``key`` the newest entry; return False when there is no such entry."""
        size = self._sizes.pop(key, None)
        if size is None:
            return False
        self._sizes[key] = size
        return True

    def remove(self, key: K) -> int | None:
        """Forget ``key`` and return its size in bytes, or None when there was no such entry."""
        size = self._sizes.pop(key, None)
        if size is not None:
            self._total_bytes -= size
        return size

    def evict(self, bytes_to_free: int, *, keep: Container[K] = ()) -> list[K]:
        """Forget the oldest entries until at least ``bytes_to_free`` are freed, or only those in ``keep`` are left.

        Returns the keys that were forgotten, oldest first.
        """
        doomed = self._oldest_worth(bytes_to_free, keep)
        for key in doomed:
            self.remove(key)
        return doomed

    def seed(self, entries: Iterable[tuple[K, int]]) -> None:
        """Add entries, oldest first, that are all older than every present one; a key that is present stays as it is.

        Meant for few large batches: each costs time in proportion to all entries.
        """
        older = {key: size for key, size in entries if key not in self._sizes}
        self._total_bytes += sum(older.values())
        older.update(self._sizes)
        self._sizes = older

    def _oldest_worth(self, bytes_to_free: int, keep: Container[K]) -> list[K]:
        # One walk for all: a walk per key would pass, each time, over the gaps that deleted keys leave in a dict.
        chosen: list[K] = []
        for key, size in self._sizes.items():
            if bytes_to_free <= 0:
                break
            if key not in keep:
                chosen.append(key)
                bytes_to_free -= size
        return chosen

"""Which entry was used longest ago: pure bookkeeping of keys, sizes and marks, for a million entries.

1. A plain dict is all there is: its order is the age, oldest first, and using an entry moves it to the end. An
   ``OrderedDict`` would take five times the memory. For the same reason size and mark are one number: below 64 GiB it
   takes no more memory than the size alone.
2. ``total_bytes`` is always the sum of the sizes.
3. Nothing here locks or waits: one task at a time, on one thread.
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
_MARK_BITS: Final = 24


class Lru(Generic[K]):
    """Keys with their sizes in bytes and a mark each, a number below 2**24, in order of last use."""

    def __init__(self) -> None:
        self._entries: dict[K, int] = {}
        self._total_bytes = 0

    @property
    def total_bytes(self) -> int:
        """The sum of the sizes of all entries."""
        return self._total_bytes

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def find(self, key: K) -> tuple[int, int] | None:
        """Return size and mark, or None when there is no such entry; this is no use of it."""
        entry = self._entries.get(key)
        return None if entry is None else (entry >> _MARK_BITS, entry & ((1 << _MARK_BITS) - 1))

    def size_of(self, key: K) -> int:
        """Return the size in bytes, 0 when there is no such entry; this is no use of it."""
        return self._entries.get(key, 0) >> _MARK_BITS

    def add(self, key: K, size: int, mark: int) -> None:
        """Make ``key`` the newest entry, whether or not it was present."""
        self.remove(key)
        self._entries[key] = _pack(size, mark)
        self._total_bytes += size

    def touch(self, key: K) -> bool:
        """Make ``key`` the newest entry; return False when there is no such entry."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return False
        self._entries[key] = entry
        return True

    def remove(self, key: K) -> None:
        """Forget ``key``, if it is there."""
        self._total_bytes -= self._entries.pop(key, 0) >> _MARK_BITS

    def oldest_worth(self, size: int, *, keep: Container[K] = ()) -> list[K]:
        """Return the oldest keys, oldest first, that have at least ``size`` together, or all but those in ``keep``."""
        # One walk for all: a walk per key would pass, each time, over the gaps that deleted keys leave in a dict.
        chosen: list[K] = []
        for key, entry in self._entries.items():
            if size <= 0:
                break
            if key not in keep:
                chosen.append(key)
                size -= entry >> _MARK_BITS
        return chosen

    def seed(self, entries: Iterable[tuple[K, int, int]]) -> None:
        """Add (key, size, mark), oldest first, as older than all present ones; a key that is present stays as it is.

        Meant for few large batches: each costs time in proportion to all entries.
        """
        older = {key: _pack(size, mark) for key, size, mark in entries if key not in self._entries}
        self._total_bytes += sum(entry >> _MARK_BITS for entry in older.values())
        older.update(self._entries)
        self._entries = older


def _pack(size: int, mark: int) -> int:
    return size << _MARK_BITS | mark

"""The store's memory of `cache/`: sizes in order of last use, which files are suspects, and who was used since when.

Changed on one thread only; every operation is whole when it returns. Keys are `Resource.pack()`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkgserver_trio.lru import Lru

if TYPE_CHECKING:
    from collections.abc import Iterable


class Index:
    """Sizes in bytes of all files in `cache/` that the store has seen."""

    def __init__(self) -> None:
        self._lru: Lru[bytes] = Lru()
        self._used_ns: dict[bytes, int] = {}
        self.suspects: set[bytes] = set()
        self.pinned: frozenset[bytes] = frozenset()
        self.evicted_files = 0
        self.evicted_bytes = 0

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self._lru)

    def __contains__(self, key: object) -> bool:
        """Tell whether the file is known, suspect or not."""
        return key in self._lru

    @property
    def total_bytes(self) -> int:
        """The size of all files together."""
        return self._lru.total_bytes

    def trusted_size(self, key: bytes) -> int | None:
        """Return the size of a verified file, None for a suspect or an unknown one."""
        return None if key in self.suspects else self._lru.size_of(key)

    def add(self, key: bytes, size: int, used_ns: int) -> None:
        """Enter a verified file as the one used last, at `used_ns` since the epoch."""
        self._lru.add(key, size)
        self._used_ns[key] = used_ns
        self.suspects.discard(key)

    def touch(self, key: bytes, used_ns: int) -> None:
        """Make a file the one used last; an unknown one stays unknown."""
        if self._lru.touch(key):
            self._used_ns[key] = used_ns

    def trust(self, key: bytes, size: int, used_ns: int) -> None:
        """Note that a file was found right; that is no use of it, so its age stays. An unknown one is entered."""
        if key in self._lru:
            self.suspects.discard(key)
        else:
            self.add(key, size, used_ns)

    def drop(self, key: bytes) -> None:
        """Forget a file."""
        self._lru.remove(key)
        self._forget(key)

    @property
    def evictable_bytes(self) -> int:
        """The size of all files that may be evicted."""
        return self.total_bytes - sum(self._lru.size_of(key) or 0 for key in self.pinned)

    def evict(self, bytes_to_free: int) -> list[bytes]:
        """Drop the files used longest ago, but none that is pinned, until so much is freed; return them."""
        before = self.total_bytes
        victims = self._lru.evict(bytes_to_free, keep=self.pinned)
        for key in victims:
            self._forget(key)
        self.evicted_files += len(victims)
        self.evicted_bytes += before - self.total_bytes
        return victims

    def seed(self, found: Iterable[tuple[bytes, int]], suspects: Iterable[bytes]) -> None:
        """Enter what a scan found, oldest use first, as older than all that is known; what is known already wins."""
        self.suspects.update(key for key in suspects if key not in self._lru)
        self._lru.seed(found)

    def take_used(self) -> dict[bytes, int]:
        """Return when files were used since the last call (ns since the epoch), and begin anew."""
        used, self._used_ns = self._used_ns, {}
        return used

    def _forget(self, key: bytes) -> None:
        self._used_ns.pop(key, None)
        self.suspects.discard(key)

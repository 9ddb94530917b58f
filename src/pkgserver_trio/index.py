"""The store's memory of `cache/`: sizes in order of last use, which files are suspects, and who was used since when.

Changed on one thread only; every operation is whole when it returns. Keys are `Resource.pack()`.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from pkgserver_trio.lru import Lru
from pkgserver_trio.recent import MOST, Recent
from pkgserver_trio.resource import tag_of, tags_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pkgserver_trio.disk import FileStat
    from pkgserver_trio.recent import Use
    from pkgserver_trio.resource import Kind

#: A prime below 2**24: no round difference between two modification times gives the same mark.
_MARKS: Final = 16_777_213
#: More than the largest tag of a key.
_TAGS: Final = 16
#: What a survey knows of a file: its time of use (ns since the epoch), key, size (bytes) and modification time (ns).
Surveyed = tuple[int, int, int, int]


class Index:
    """Sizes in bytes of all files in `cache/` that the store has seen; uses of them go to `recent` as well."""

    def __init__(self, recent: Recent | None = None) -> None:
        self._recent = Recent() if recent is None else recent
        # By tag, and lists: a counter by kind would take seconds to fill for a million files.
        self._files = [0] * _TAGS
        self._bytes = [0] * _TAGS
        self._lru: Lru[int] = Lru()
        self._used_ns: dict[int, int] = {}
        self._newest_ns = 0
        self.suspects: set[int] = set()
        self.pinned: frozenset[int] = frozenset()
        self.evicted_files = 0
        self.evicted_bytes = 0

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self._lru)

    @property
    def total_bytes(self) -> int:
        """The size of all files together."""
        return self._lru.total_bytes

    def trusts(self, key: int) -> bool:
        """Tell whether the file was verified, and not doubted since."""
        return key in self._lru and key not in self.suspects

    def is_unchanged(self, key: int, stat: FileStat) -> bool:
        """Tell whether a known file still is what it was when it was entered: its size, and a mark of its mtime."""
        return self._lru.find(key) == (stat.size_bytes, stat.mtime_ns % _MARKS)

    def size_of(self, key: int) -> int | None:
        """Return the size of a known file, a suspect too; this is no use of it."""
        found = self._lru.find(key)
        return None if found is None else found[0]

    def add(self, key: int, stat: FileStat, used_ns: int) -> None:
        """Enter a verified file as the one used last, at `used_ns` since the epoch."""
        self._uncount(key)
        self._lru.add(key, stat.size_bytes, stat.mtime_ns % _MARKS)
        self._count(key, stat.size_bytes)
        self.suspects.discard(key)
        self.touch(key, used_ns)

    def touch(self, key: int, used_ns: int) -> None:
        """Make a file the one used last; an unknown one stays unknown.

        Times of use never go back, whatever the clock does: they carry the order across a restart.
        """
        if self._lru.touch(key):
            self._newest_ns = max(used_ns, self._newest_ns + 1)
            self._used_ns[key] = self._newest_ns
            self._recent.use(key, self._newest_ns)

    def trust(self, key: int, stat: FileStat, used_ns: int) -> None:
        """Note that a file was found right; that is no use of it, so its age stays. Another one is entered."""
        if self.is_unchanged(key, stat):
            self.suspects.discard(key)
        else:
            self.add(key, stat, used_ns)

    def doubt(self, key: int) -> None:
        """Make a known file a suspect: it takes space, but is not to be served as it is."""
        if key in self._lru:
            self.suspects.add(key)

    def drop(self, key: int) -> None:
        """Forget a file."""
        self._uncount(key)
        self._lru.remove(key)
        self._recent.drop(key)
        self._used_ns.pop(key, None)
        self.suspects.discard(key)

    @property
    def evictable_bytes(self) -> int:
        """The size of all files that may be evicted."""
        return self.total_bytes - sum(self._lru.size_of(key) for key in self.pinned)

    def oldest_worth(self, bytes_to_free: int) -> list[int]:
        """Return the files used longest ago, but none that is pinned, that make up so much together."""
        return self._lru.oldest_worth(bytes_to_free, keep=self.pinned)

    def evict(self, key: int) -> None:
        """Forget a file that was removed to make room."""
        self.evicted_files += 1
        self.evicted_bytes += self._lru.size_of(key)
        self.drop(key)

    def postpone(self, key: int) -> None:
        """Have a file evicted last of all; that is no use of it."""
        self._lru.touch(key)

    def seed(self, found: Sequence[Surveyed], suspects: Iterable[int]) -> None:
        """Enter what a scan found, oldest use first, as older than all that is known; what is known already wins."""
        self.suspects.update(key for key in suspects if key not in self._lru)
        for _, key, size, _ in found:
            if key not in self._lru:
                self._count(key, size)
        self._lru.seed((key, size, mtime_ns % _MARKS) for _, key, size, mtime_ns in found)
        self._recent.seed([(used_ns, key) for used_ns, key, _, _ in found[-MOST:]])
        if found:
            self._newest_ns = max(self._newest_ns, found[-1][0])

    def held(self, kind: Kind) -> tuple[int, int]:
        """Return how many files of a kind there are, and their size together."""
        tags = tags_of(kind)
        return sum(self._files[tag] for tag in tags), sum(self._bytes[tag] for tag in tags)

    def newest(self, limit: int) -> list[tuple[Use, int]]:
        """Return at most `limit` files with their sizes, the one used last first."""
        known = ((use, self._lru.size_of(use.key)) for use in self._recent if use.key in self._lru)
        return list(islice(known, limit))

    def _count(self, key: int, size: int) -> None:
        tag = tag_of(key)
        self._files[tag] += 1
        self._bytes[tag] += size

    def _uncount(self, key: int) -> None:
        if key in self._lru:
            tag = tag_of(key)
            self._files[tag] -= 1
            self._bytes[tag] -= self._lru.size_of(key)

    def take_used(self) -> dict[int, int]:
        """Return when files were used since the last call (ns since the epoch), and begin anew."""
        used, self._used_ns = self._used_ns, {}
        return used

"""The store's memory of `cache/`: sizes in order of last use, which files are suspects, and who was used since when.

Changed on one thread only; every operation is whole when it returns. Keys are `Resource.pack()`.
"""

from __future__ import annotations

from heapq import nlargest
from itertools import islice
from typing import TYPE_CHECKING, Final

from pkgserver_trio.recent import MOST, Recent
from pkgserver_trio.resource import tag_of, tags_of
from pkgserver_trio.storage.lru import Entry, Lru

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pkgserver_trio.recent import Use
    from pkgserver_trio.resource import Kind
    from pkgserver_trio.storage.disk import FileStat

#: A prime below 2**32: no round difference between two modification times gives the same mark.
_MARKS: Final = 4_294_967_291
#: More than the largest tag of a key.
_TAGS: Final = 16


class Index:
    """Sizes in bytes of all files in `cache/` that the store has seen; uses of them go to `recent` as well."""

    def __init__(self, recent: Recent | None = None) -> None:
        self._recent = Recent() if recent is None else recent
        self._files = [0] * _TAGS
        self._bytes = [0] * _TAGS
        self._lru = Lru()
        self._gone: set[int] | None = set()  # what was dropped, until a survey comes in that may have seen it
        self._used_ns: dict[int, int] = {}
        self._newest_ns = 0
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
        found = self._lru.find(key)
        return found is not None and not found.suspect

    def is_suspect(self, key: int) -> bool:
        """Tell whether the file is known, and not known as right."""
        found = self._lru.find(key)
        return found is not None and found.suspect

    def suspects(self) -> Iterator[int]:
        """Yield the suspects, in no order; the index may change meanwhile."""
        return self._lru.suspects()

    def is_unchanged(self, key: int, stat: FileStat) -> bool:
        """Tell whether a known file still is what it was when it was entered: its size, and a mark of its mtime."""
        found = self._lru.find(key)
        return found is not None and found[:2] == (stat.size_bytes, stat.mtime_ns % _MARKS)

    def size_of(self, key: int) -> int | None:
        """Return the size of a known file, a suspect too; this is no use of it."""
        found = self._lru.find(key)
        return None if found is None else found.size

    def add(self, key: int, stat: FileStat, used_ns: int) -> None:
        """Enter a verified file as the one used last, at `used_ns` since the epoch."""
        self._put(key, Entry(stat.size_bytes, stat.mtime_ns % _MARKS, suspect=False))
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
            self._lru.suspect(key, suspect=False)
        else:
            self.add(key, stat, used_ns)

    def doubt(self, key: int) -> None:
        """Make a known file a suspect: it takes space, but is not to be served as it is."""
        self._lru.suspect(key, suspect=True)

    def drop(self, key: int) -> None:
        """Forget a file."""
        size, tag = self._lru.remove(key), tag_of(key)
        self._files[tag] -= size is not None
        self._bytes[tag] -= size or 0
        self._recent.drop(key)
        self._used_ns.pop(key, None)
        if self._gone is not None:
            self._gone.add(key)

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

    def enter(self, key: int, stat: FileStat, *, suspect: bool) -> bool:
        """Enter a file that a survey found, for `sort`; False for one that is there: some are listed twice."""
        new = key not in self._lru
        if new:
            self._put(key, Entry(stat.size_bytes, stat.mtime_ns % _MARKS, suspect))
        return new

    def sort(self, used_ns: Sequence[int]) -> None:
        """Order what was entered, and nothing else yet, by times of use, told in the order in which it was."""
        self._lru.sort(used_ns)
        latest = list(zip(nlargest(MOST, used_ns), self._lru.newest(), strict=False))
        self._recent.seed(latest[::-1])
        self._newest_ns = latest[0][0] if latest else 0

    def adopt(self, found: Index) -> None:
        """Take over what a survey made, as older than all that is known; what is known already wins.

        Takes about 5 us for each file that was entered or dropped since the survey began, whatever that found.
        """
        for key in self._gone or ():
            found.drop(key)
        for key, entry in self._lru.items():
            found._put(key, entry)
        self._lru, self._files, self._bytes, self._gone = found._lru, found._files, found._bytes, None
        self._recent.seed([(use.used_ns, use.key) for use in found._recent][::-1])
        self._newest_ns = max(self._newest_ns, found._newest_ns)

    def held(self, kind: Kind) -> tuple[int, int]:
        """Return how many files of a kind there are, and their size together."""
        tags = tags_of(kind)
        return sum(self._files[tag] for tag in tags), sum(self._bytes[tag] for tag in tags)

    def newest(self, limit: int) -> list[tuple[Use, int]]:
        """Return at most `limit` files with their sizes, the one used last first."""
        known = ((use, self._lru.size_of(use.key)) for use in self._recent if use.key in self._lru)
        return list(islice(known, limit))

    def _put(self, key: int, entry: Entry) -> None:
        """Make an entry the newest, in place of any older one."""
        before, tag = self._lru.add(key, entry), tag_of(key)
        self._files[tag] += before is None
        self._bytes[tag] += entry.size - (before or 0)

    def take_used(self) -> dict[int, int]:
        """Return when files were used since the last call (ns since the epoch), and begin anew."""
        used, self._used_ns = self._used_ns, {}
        return used

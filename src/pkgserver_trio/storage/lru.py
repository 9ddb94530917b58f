"""Which entry was used longest ago: pure bookkeeping of keys, sizes and marks, for a million entries in 70 MB.

1. An entry is a slot: a place in arrays, since a dict of Python's objects takes twice the memory. Slot 0 is no entry:
   it is the end of all chains, and both ends of the ring that goes through all entries from the oldest to the newest.
2. Entries whose keys have one hash form a chain; free slots are one, too. Keys are compared whole.
3. The table of chains never grows, so that no operation takes long.
4. Nothing here locks or waits: one task at a time, on one thread.
"""

from __future__ import annotations

from array import array
from heapq import merge
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

#: A key is a number from 0 that fits in so many bytes.
KEY_BYTES: Final = 37
_CHAINS: Final = 1 << 19
#: How many entries are sorted at once: a sort lets no other thread run before it has finished.
_RUN: Final = 8192


class Entry(NamedTuple):
    """What is kept of a key: a size in bytes, a mark (a number below 2**32), and whether it is a suspect."""

    size: int
    mark: int
    suspect: bool


class Lru:
    """Keys with an entry each, in order of last use; `total_bytes` is always the sum of the sizes."""

    def __init__(self, chains: int = _CHAINS) -> None:
        self._chains = array("I", [0]) * chains
        self._keys = bytearray(KEY_BYTES)
        self._sizes = array("Q", [0])
        self._marks = array("I", [0])
        self._suspect = bytearray(1)
        self._chained = array("I", [0])
        self._older = array("I", [0])
        self._newer = array("I", [0])
        self._free = 0
        self._length = 0
        self.total_bytes = 0

    def __len__(self) -> int:
        return self._length

    def __contains__(self, key: int) -> bool:
        return bool(self._find(_packed(key)))

    def items(self) -> Iterator[tuple[int, Entry]]:
        """Yield all keys with their entries, oldest first; nothing may be changed meanwhile."""
        slot = self._newer[0]
        while slot:
            yield self._key(slot), self._entry(slot)
            slot = self._newer[slot]

    def newest(self) -> Iterator[int]:
        """Yield all keys, newest first; nothing may be changed meanwhile."""
        slot = self._older[0]
        while slot:
            yield self._key(slot)
            slot = self._older[slot]

    def suspects(self) -> Iterator[int]:
        """Yield the keys of suspects, in no order. What is added meanwhile may be left out."""
        slot = -1
        while (slot := self._suspect.find(1, slot + 1)) >= 0:
            yield self._key(slot)

    def find(self, key: int) -> Entry | None:
        """Return the entry, or None when there is none; this is no use of it."""
        slot = self._find(_packed(key))
        return self._entry(slot) if slot else None

    def size_of(self, key: int) -> int:
        """Return the size in bytes, 0 when there is no such entry; this is no use of it."""
        return self._sizes[self._find(_packed(key))]

    def add(self, key: int, entry: Entry) -> int | None:
        """Make ``key`` the newest; return the size of the entry that this replaces, or None when there was none."""
        packed = _packed(key)
        slot = self._find(packed)
        before = self._sizes[slot] if slot else None
        if slot:
            self._unlink(slot)
        else:
            slot = self._begin(packed)
        self.total_bytes += entry.size - (before or 0)
        self._sizes[slot], self._marks[slot], self._suspect[slot] = entry
        self._link(slot)
        return before

    def touch(self, key: int) -> bool:
        """Make ``key`` the newest; return False when there is no such entry."""
        slot = self._find(_packed(key))
        if slot:
            self._unlink(slot)
            self._link(slot)
        return slot != 0

    def suspect(self, key: int, *, suspect: bool) -> None:
        """Make an entry a suspect, or free it from suspicion."""
        slot = self._find(_packed(key))
        if slot:
            self._suspect[slot] = suspect

    def remove(self, key: int) -> int | None:
        """Forget ``key``; return its size, or None when there is no such entry."""
        packed = _packed(key)
        slot = self._find(packed)
        if not slot:
            return None
        self._unlink(slot)
        self._unchain(slot, packed)
        self._suspect[slot] = 0
        self._chained[slot], self._free = self._free, slot
        self._length -= 1
        self.total_bytes -= self._sizes[slot]
        return self._sizes[slot]

    def oldest_worth(self, size: int, *, keep: Container[int] = ()) -> list[int]:
        """Return the oldest keys, oldest first, that have at least ``size`` together, or all but those in ``keep``."""
        chosen: list[int] = []
        slot = self._newer[0]
        while slot and size > 0:
            key = self._key(slot)
            if key not in keep:
                chosen.append(key)
                size -= self._sizes[slot]
            slot = self._newer[slot]
        return chosen

    def sort(self, times: Sequence[int]) -> None:
        """Order the entries by their times of use, told in the order in which they were added: each once, for ever."""

        def time_of(slot: int) -> int:
            return times[slot - 1]

        slots = range(1, len(times) + 1)
        runs = [array("I", sorted(slots[at : at + _RUN], key=time_of)) for at in range(0, len(times), _RUN)]
        self._older[0] = self._newer[0] = 0
        for slot in merge(*runs, key=time_of):
            self._link(slot)

    def _entry(self, slot: int) -> Entry:
        return Entry(self._sizes[slot], self._marks[slot], bool(self._suspect[slot]))

    def _key(self, slot: int) -> int:
        return int.from_bytes(self._keys[slot * KEY_BYTES : (slot + 1) * KEY_BYTES], "big")

    def _find(self, packed: bytes) -> int:
        keys, slot = self._keys, self._chains[hash(packed) % len(self._chains)]
        while slot and keys[slot * KEY_BYTES : (slot + 1) * KEY_BYTES] != packed:
            slot = self._chained[slot]
        return slot

    def _begin(self, packed: bytes) -> int:
        """Return the slot, free until now, of a new key."""
        slot, chain = self._free, hash(packed) % len(self._chains)
        if slot:
            self._free = self._chained[slot]
            self._keys[slot * KEY_BYTES : (slot + 1) * KEY_BYTES] = packed
        else:
            slot = len(self._sizes)
            self._keys += packed
            self._suspect.append(0)
            for column in (self._sizes, self._marks, self._chained, self._older, self._newer):
                column.append(0)
        self._chained[slot], self._chains[chain] = self._chains[chain], slot
        self._length += 1
        return slot

    def _unchain(self, slot: int, packed: bytes) -> None:
        chain = hash(packed) % len(self._chains)
        if self._chains[chain] == slot:
            self._chains[chain] = self._chained[slot]
            return
        before = self._chains[chain]
        while self._chained[before] != slot:
            before = self._chained[before]
        self._chained[before] = self._chained[slot]

    def _link(self, slot: int) -> None:
        """Put a slot into the ring, as the newest."""
        newest = self._older[0]
        self._older[slot], self._newer[slot] = newest, 0
        self._newer[newest] = self._older[0] = slot

    def _unlink(self, slot: int) -> None:
        older, newer = self._older[slot], self._newer[slot]
        self._newer[older], self._older[newer] = newer, older


def _packed(key: int) -> bytes:
    return key.to_bytes(KEY_BYTES, "big")

"""The resources used last: when that was, and how often clients got them. Bounded, however many a cache holds."""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Of how many resources this is remembered: to tell of all of them holds everybody else up for some 10 ms.
MOST: Final = 2000


class Use(NamedTuple):
    """A packed resource, when it was used last (ns since the epoch; 0: not known), and how often clients got it."""

    key: int
    used_ns: int
    served: int


class Recent:
    """The `most` resources used last, by `Resource.pack()`. Who falls out is counted from zero when it comes back."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._uses: OrderedDict[int, tuple[int, int]] = OrderedDict()  # time and count, the newest last

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self._uses)

    def __iter__(self) -> Iterator[Use]:
        """Yield them, the newest first."""
        for key, (used_ns, count) in reversed(self._uses.items()):
            yield Use(key, used_ns, count)

    def use(self, key: int, used_ns: int) -> None:
        """Note that a resource was used, by whomever, at `used_ns` since the epoch."""
        _, count = self._uses.get(key, (0, 0))
        self._put(key, used_ns, count)

    def serve(self, key: int) -> None:
        """Note that a client got a resource."""
        used_ns, count = self._uses.get(key, (0, 0))
        self._put(key, used_ns, count + 1)

    def drop(self, key: int) -> None:
        """Forget a resource."""
        self._uses.pop(key, None)

    def seed(self, found: Sequence[tuple[int, int]]) -> None:
        """Enter what a scan found (time in ns, key), oldest first, as older than what is known, which stays."""
        for used_ns, key in islice(reversed(found), self._most):
            if len(self._uses) == self._most:
                break
            if key not in self._uses:
                self._uses[key] = (used_ns, 0)
                self._uses.move_to_end(key, last=False)

    def _put(self, key: int, used_ns: int, count: int) -> None:
        self._uses[key] = (used_ns, count)
        self._uses.move_to_end(key)
        if len(self._uses) > self._most:
            self._uses.popitem(last=False)

"""What was refused a moment ago, so that it is refused again without asking anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

#: How many refusals are remembered; the longest remembered make room for more.
MAX_REFUSALS = 10_000

K = TypeVar("K", bound="Hashable")
E = TypeVar("E", bound=Exception)


class Refusals(Generic[K, E]):
    """Reasons by key, each until its time. Times are of any clock that only moves forward."""

    def __init__(self) -> None:
        self._refusals: dict[K, tuple[E, float]] = {}

    def add(self, key: K, reason: E, until: float) -> None:
        """Remember a reason."""
        self._refusals.pop(key, None)  # or it would keep its place in the order
        self._refusals[key] = reason, until
        if len(self._refusals) > MAX_REFUSALS:
            del self._refusals[next(iter(self._refusals))]

    def recall(self, key: K, now: float) -> E | None:
        """Return the reason, unless its time is over."""
        reason, until = self._refusals.get(key, (None, now))
        return reason if now < until else None

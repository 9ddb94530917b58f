"""Who offers to move a registry back, and whether that is meant.

A registry moves back by accident when a storage server shows an old list again, and on purpose when a maintainer takes
a change back. On purpose is what every server that can be heard has offered for a long time, and nothing else.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


class _Unanimous(NamedTuple):
    """The only head that is offered (None: there are several), for how long in all, and when that was heard last."""

    head: str | None
    seconds: float
    heard: float


class Rollbacks:
    """The registries (by uuid) of one flavor. Times are seconds of any clock that only moves forward."""

    def __init__(self, after_seconds: float, *, longest_gap_seconds: float) -> None:
        self.refused: Counter[tuple[str, str]] = Counter()
        """How often a server (its name comes second) that offered the published head of a registry moved it back."""
        self._after_seconds = after_seconds
        self._longest_gap_seconds = longest_gap_seconds
        self._unanimous: dict[str, _Unanimous] = {}
        self._offered: dict[tuple[str, str], str] = {}
        self._left_published: set[tuple[str, str]] = set()
        self._told: set[tuple[str, str]] = set()
        self._unknown_since: dict[str, float] = {}

    def hear(self, uuid: str, offers: Mapping[str, str], published: str | None, now: float) -> None:
        """Take in the heads that servers (by name) offer now; none, while no server can be heard, changes nothing.

        Only time counts in which servers were heard: what lies between two words of theirs is too long for that when it
        is more than the longest gap.
        """
        heads = set(offers.values())
        if heads:
            self._unanimous[uuid] = self._go_on(uuid, min(heads) if len(heads) == 1 else None, now)
        for server, head in offers.items():
            before = self._offered.get((uuid, server), head)
            if before not in {head, published}:
                self._left_published.discard((uuid, server))
            elif before != head:
                self._left_published.add((uuid, server))
            self._offered[uuid, server] = head

    def _go_on(self, uuid: str, only: str | None, now: float) -> _Unanimous:
        before = self._unanimous.get(uuid)
        if before is None or before.head != only:
            return _Unanimous(only, 0, now)
        gap = now - before.heard
        return _Unanimous(only, before.seconds + (gap if gap <= self._longest_gap_seconds else 0), now)

    def is_meant(self, uuid: str, head: str) -> bool:
        """Tell whether all that could be heard have offered this head, and no other, for long enough."""
        unanimous = self._unanimous.get(uuid)
        return unanimous is not None and unanimous.head == head and unanimous.seconds >= self._after_seconds

    def is_orphaned(self, uuid: str, *, known: bool, now: float) -> bool:
        """Tell whether no server that was heard has known the published head for as long as takes to mean a rollback.

        Then it is no measure for what comes after it any more.
        """
        if known:
            self._unknown_since.pop(uuid, None)
            return False
        return now - self._unknown_since.setdefault(uuid, now) >= self._after_seconds

    def refuse(self, uuid: str, offers: Mapping[str, str], heads: Collection[str]) -> list[str]:
        """Count the servers whose offers are among the refused `heads`; return those of them not told yet.

        A server that lags behind since others moved on is refused, too, but does not move anything back.
        """
        moved_back = [server for server in offers if offers[server] in heads and (uuid, server) in self._left_published]
        for server in moved_back:
            self.refused[uuid, server] += 1
            self._left_published.discard((uuid, server))
        untold = sorted({offers[server] for server in moved_back if (uuid, offers[server]) not in self._told})
        self._told.update((uuid, head) for head in untold)
        return untold

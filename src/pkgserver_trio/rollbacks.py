"""Who offers to move a registry back, and whether that is meant.

A registry moves back by accident when a storage server shows an old list again, and on purpose when a maintainer takes
a change back. On purpose is what every server that can be heard has offered for a long time, and nothing else.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


class Rollbacks:
    """The registries (by uuid) of one flavor. Times are seconds of any clock that only moves forward."""

    def __init__(self, after_seconds: float) -> None:
        self.refused: Counter[tuple[str, str]] = Counter()
        """How often a server (its name comes second) that offered the published head of a registry moved it back."""
        self._after_seconds = after_seconds
        self._unanimous: dict[str, tuple[str | None, float]] = {}  # the only head that is offered, and since when
        self._offered: dict[tuple[str, str], str] = {}
        self._left_published: set[tuple[str, str]] = set()
        self._told: set[tuple[str, str]] = set()

    def hear(self, uuid: str, offers: Mapping[str, str], published: str | None, now: float) -> None:
        """Take in the heads that servers (by name) offer now; none, while no server can be heard, changes nothing."""
        heads = set(offers.values())
        only = min(heads) if len(heads) == 1 else None
        if heads and (uuid not in self._unanimous or self._unanimous[uuid][0] != only):
            self._unanimous[uuid] = only, now
        for server, head in offers.items():
            before = self._offered.get((uuid, server), head)
            if before not in {head, published}:
                self._left_published.discard((uuid, server))
            elif before != head:
                self._left_published.add((uuid, server))
            self._offered[uuid, server] = head

    def is_meant(self, uuid: str, head: str, now: float) -> bool:
        """Tell whether all that could be heard have offered this head, and no other, for long enough."""
        only, since = self._unanimous.get(uuid, (None, now))
        return head == only and now - since >= self._after_seconds

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

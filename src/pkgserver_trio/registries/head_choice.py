"""Which of the heads that storage servers offer may replace the published one of a registry.

1. What servers know decides which head is newer (`consensus`).
2. Never back: what was superseded before, is listed with an earlier date than the published one, or is offered only by
   servers that do not know the published one, is refused. All of it is taken when it is meant (`rollbacks`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

import structlog
import trio

from pkgserver_trio.registries.consensus import Knowledge, ranked, strictly_newer
from pkgserver_trio.resource import Kind, Resource

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from pkgserver_trio.registries.ledger import Ledger
    from pkgserver_trio.registries.poll import Poll
    from pkgserver_trio.registries.rollbacks import Rollbacks
    from pkgserver_trio.upstream.storage_servers import StorageServer


@dataclass(frozen=True, slots=True)
class Offer:
    """One server's head of one registry, as it was when it was looked at; the date is in Unix seconds."""

    server: StorageServer
    head: str
    listed_seconds: float | None


@dataclass(frozen=True, slots=True)
class Ranking:
    """The offers that may replace the published head, best first, and the pairs of which the first is surely newer."""

    forward: Sequence[Offer]
    newer: frozenset[tuple[str, str]]

    def older_than(self, head: str | None) -> set[str]:
        """Return the heads that are surely older than this one."""
        return {older for newer, older in self.newer if newer == head}


_NOTHING = Ranking((), frozenset())


class HeadChoice:
    """Chooses for the registries of one flavor, which ledger and log know by its label, among so many `servers`."""

    def __init__(
        self, flavor: str, ledger: Ledger, rollbacks: Rollbacks, *, servers: int, wall_seconds: Callable[[], float]
    ) -> None:
        self._flavor = flavor
        self._servers = servers
        self._wall_seconds = wall_seconds
        self._ledger = ledger
        self._rollbacks = rollbacks
        self._known: set[tuple[str, str]] = set()  # server and hash: what it once had, it has
        self._log = structlog.get_logger().bind(flavor=flavor)

    def hear(self, uuid: str, polls: Iterable[Poll], published: str | None) -> None:
        """Take in what the servers that count offer now."""
        self._rollbacks.hear(uuid, _by_server(_offers(uuid, polls)), published, trio.current_time())

    async def rank(self, uuid: str, polls: Iterable[Poll], published: str | None) -> Ranking:
        """Rank what the servers that count offer now, after asking them what they know."""
        offers = _offers(uuid, polls)  # now: the polls go on while servers are asked
        heads = {offer.head for offer in offers}
        if any(self._rollbacks.is_meant(uuid, head) for head in heads - {published}):
            return Ranking(_latest(offers, heads), frozenset())
        all_agree = len(heads) == 1 < len(offers) == self._servers
        backward = {offer.head for offer in offers if self._is_backward(uuid, offer, published, all_agree=all_agree)}
        candidates = heads - backward
        if candidates <= {published}:
            self._refuse(uuid, offers, backward)
            return _NOTHING
        asked = candidates if published is None else {*candidates, published}
        knowledge = await self._ask_around(uuid, offers, asked) if len(asked) > 1 else {}
        order = ranked(candidates, knowledge, published=published, last_modified=_dates(offers))
        forward = list(takewhile(lambda head: head != published, order))
        orphaned = published is not None and self._is_orphaned(uuid, published, knowledge)
        unaware = set() if orphaned else {head for head in forward if not _is_known_beside(published, head, knowledge)}
        self._refuse(uuid, offers, backward | unaware)
        kept = [head for head in forward if head not in unaware]
        # Of what nobody knows nothing is known to be older.
        is_known = any(answers.get(published or "") is Knowledge.YES for answers in knowledge.values())
        return Ranking(_latest(offers, kept), strictly_newer(asked, knowledge) if is_known else frozenset())

    def _is_backward(self, uuid: str, offer: Offer, published: str | None, *, all_agree: bool) -> bool:
        """Tell whether an offer is older than what is published. All servers may agree on what never was published."""
        if published is None or offer.head == published:
            return False
        if self._ledger.is_superseded(self._flavor, uuid, offer.head):
            return True
        passed_over = self._ledger.is_passed_over(self._flavor, uuid, offer.head, self._wall_seconds())
        return not all_agree and (passed_over or self._is_listed_earlier(uuid, offer, published))

    def _is_listed_earlier(self, uuid: str, offer: Offer, published: str) -> bool:
        """Tell whether the same server's list that offered the published head had a later date than this one."""
        adoption = self._ledger.adoption(self._flavor, uuid)
        if adoption is None or adoption.head != published or adoption.listed_by != offer.server.name:
            return False
        before, now = adoption.listed_seconds, offer.listed_seconds
        return before is not None and now is not None and now < before

    def _is_orphaned(self, uuid: str, published: str, knowledge: Mapping[str, Mapping[str, Knowledge]]) -> bool:
        """Tell whether servers have for long been heard, and none of them knew the published head."""
        said = {answers.get(published) for answers in knowledge.values()}
        known = Knowledge.YES in said or Knowledge.NO not in said
        return self._rollbacks.is_orphaned(uuid, known=known, now=trio.current_time())

    def _refuse(self, uuid: str, offers: Sequence[Offer], heads: Collection[str]) -> None:
        for head in self._rollbacks.refuse(uuid, _by_server(offers), heads):
            servers = sorted(offer.server.name for offer in offers if offer.head == head)
            self._log.warning("refused to move a registry back", registry=uuid, head=head, servers=servers)

    async def _ask_around(
        self, uuid: str, offers: Sequence[Offer], hashes: Collection[str]
    ) -> dict[str, dict[str, Knowledge]]:
        """Ask the servers that are heard about every hash; only a yes is remembered."""
        answers: dict[str, dict[str, Knowledge]] = {offer.server.name: {} for offer in offers}

        async def ask(offer: Offer, tree_hash: str) -> None:
            name = offer.server.name
            knows: bool | None = offer.head == tree_hash or (name, tree_hash) in self._known
            if not knows:
                knows = await offer.server.has(Resource(Kind.REGISTRY, tree_hash, uuid).path)
            if knows:
                self._known.add((name, tree_hash))
            answers[name][tree_hash] = Knowledge.UNKNOWN if knows is None else Knowledge.YES if knows else Knowledge.NO

        async with trio.open_nursery() as nursery:
            for offer in offers:
                for tree_hash in hashes:
                    nursery.start_soon(ask, offer, tree_hash)
        return answers


def _offers(uuid: str, polls: Iterable[Poll]) -> list[Offer]:
    return [Offer(poll.server, poll.heads[uuid], poll.last_modified) for poll in polls if uuid in poll.heads]


def _by_server(offers: Iterable[Offer]) -> dict[str, str]:
    return {offer.server.name: offer.head for offer in offers}


def _dates(offers: Iterable[Offer]) -> dict[str, float | None]:
    """Return for each head the latest date that came with it."""
    dates: dict[str, float | None] = {}
    for offer in offers:
        dates[offer.head] = max(offer.listed_seconds or 0, dates.get(offer.head) or 0) or None
    return dates


def _latest(offers: Iterable[Offer], heads: Iterable[str]) -> list[Offer]:
    """Return for each of the heads the offer with the latest date."""
    offered = sorted(offers, key=lambda offer: offer.listed_seconds or 0)
    latest = {offer.head: offer for offer in offered}
    return [latest[head] for head in heads]


def _is_known_beside(published: str | None, head: str, knowledge: Mapping[str, Mapping[str, Knowledge]]) -> bool:
    """Tell whether some server knows both; without a published one there is nothing to know."""
    if published is None:
        return True
    both = (published, head)
    return any(all(answers.get(one) is Knowledge.YES for one in both) for answers in knowledge.values())

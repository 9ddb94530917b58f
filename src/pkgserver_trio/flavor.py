"""One list of registry heads: polled, decided, published.

1. Every storage server is polled by a task of its own, so that one that hangs delays no news of another.
2. A registry is decided anew whenever a poll brought news of it, by a task of its own; only servers that answered last
   time are heard.
3. A head is published when its tarball is in the store. A head is taken only from a server that knows the published one
   too: one that does not is behind, or has lost it, and following it would move clients backwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
import trio

from pkgserver_trio.consensus import Knowledge, ranked
from pkgserver_trio.errors import ResourceUnavailableError
from pkgserver_trio.registry_list import parse_listing, render_listing
from pkgserver_trio.registry_poll import Poll
from pkgserver_trio.resource import Kind, Resource
from pkgserver_trio.settings import AllRegistries, RegistryChoice

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from pkgserver_trio.upstream import StorageServer


#: How long a new head is waited for before others are considered; its download goes on, and can be joined again.
_HOLD_SECONDS = 60


def listing_name(flavor: str) -> str:
    """Return the name of a flavor's listing, in `static/` and in URLs; the flavorless list has the empty name."""
    return f"registries.{flavor}" if flavor else "registries"


class Flavor:
    """The heads that are published under one name, and how they follow the storage servers."""

    def __init__(
        self,
        name: str,
        servers: Sequence[StorageServer],
        hold: Callable[[Resource], Awaitable[None]],
        choices: tuple[RegistryChoice, ...] | AllRegistries,
        *,
        period_seconds: float,
        publish: Callable[[str, bytes], Awaitable[None]],
        listing: bytes | None,
        complained: set[str],
    ) -> None:
        self.name = name
        self.polls = [Poll(server) for server in servers]
        self._hold = hold
        self._chosen = None if isinstance(choices, AllRegistries) else {choice.uuid for choice in choices}
        before = parse_listing(listing or b"").heads.items()
        self.published = {uuid: head for uuid, head in before if self._is_chosen(uuid)}
        self._period_seconds = period_seconds
        self._publish = publish
        self._publishing = trio.Lock()
        self._complained = complained  # names of the servers that were said to fail; shared by all flavors
        self._refused, self._deciding = set[str](), set[str]()  # hashes; uuids
        self._known: set[tuple[str, str]] = set()  # server and hash: what it once had, it has
        self._log = structlog.get_logger().bind(flavor=name or "(flavorless)")

    @property
    def listing(self) -> bytes | None:
        """What is published, as text; None before a first registry is known."""
        return render_listing(self.published) if self.published else None

    def heads(self) -> list[Resource]:
        """Return the registries that are published."""
        return [Resource(Kind.REGISTRY, head, uuid) for uuid, head in self.published.items()]

    async def run(self) -> None:
        """Follow the storage servers for ever."""
        async with trio.open_nursery() as nursery:
            for poll in self.polls:
                nursery.start_soon(self._keep_asking, poll, nursery)

    async def _keep_asking(self, poll: Poll, nursery: trio.Nursery) -> None:
        while True:
            news = await poll.ask(listing_name(self.name))
            self._complain(poll)
            for uuid, head in self._wanted(poll):
                if (news or self.published.get(uuid) != head) and uuid not in self._deciding:
                    self._deciding.add(uuid)
                    nursery.start_soon(self._decide, uuid)
            await trio.sleep(self._period_seconds)

    def _complain(self, poll: Poll) -> None:
        name = poll.server.name
        if poll.failing and name not in self._complained:
            self._complained.add(name)
            self._log.warning("storage server gives no registries", server=name, error=poll.error)
        elif not poll.failing and name in self._complained:
            self._complained.remove(name)
            self._log.info("storage server gives registries again", server=name)

    def _wanted(self, poll: Poll) -> list[tuple[str, str]]:
        return [] if poll.error else [(uuid, head) for uuid, head in poll.heads.items() if self._is_chosen(uuid)]

    def _is_chosen(self, uuid: str) -> bool:
        return self._chosen is None or uuid in self._chosen

    async def _decide(self, uuid: str) -> None:
        try:
            await self._choose(uuid)
        finally:
            self._deciding.discard(uuid)

    async def _choose(self, uuid: str) -> None:
        heard = [poll for poll in self.polls if not poll.error and uuid in poll.heads]
        candidates = {poll.heads[uuid] for poll in heard}
        published = self.published.get(uuid)
        if candidates <= {published}:
            return
        asked = candidates if published is None else {*candidates, published}
        knowledge = await self._ask_around(uuid, heard, asked) if len(asked) > 1 else {}
        dates: dict[str, float | None] = {}
        for poll in heard:
            head = poll.heads[uuid]
            dates[head] = max(poll.last_modified or 0, dates.get(head) or 0) or None
        for head in ranked(candidates, knowledge, published=published, last_modified=dates):
            if head == published or (self._moves_forward(uuid, head, knowledge) and await self._adopt(uuid, head)):
                return

    def _moves_forward(self, uuid: str, head: str, knowledge: dict[str, dict[str, Knowledge]]) -> bool:
        published = self.published.get(uuid)
        knows_both = {published, head}
        if published is None or any(
            {known for known, answer in answers.items() if answer is Knowledge.YES} >= knows_both
            for answers in knowledge.values()
        ):
            return True
        if head not in self._refused:
            self._refused.add(head)
            self._log.warning("refused a head whose servers do not know the published one", registry=uuid, head=head)
        return False

    async def _adopt(self, uuid: str, head: str) -> bool:
        try:
            with trio.fail_after(_HOLD_SECONDS):
                await self._hold(Resource(Kind.REGISTRY, head, uuid))
            async with self._publishing:
                listing = render_listing({**self.published, uuid: head})
                await self._publish(listing_name(self.name), listing)
                self.published[uuid] = head
        except (ResourceUnavailableError, OSError, trio.TooSlowError) as error:
            self._log.warning("new registry head is not to be had", registry=uuid, head=head, error=str(error))
            return False
        self._log.info("published registry head", registry=uuid, head=head)
        return True

    async def _ask_around(
        self, uuid: str, heard: Sequence[Poll], hashes: Collection[str]
    ) -> dict[str, dict[str, Knowledge]]:
        """Ask the servers that are heard about every hash; only a yes is remembered."""
        answers: dict[str, dict[str, Knowledge]] = {poll.server.name: {} for poll in heard}

        async def ask(poll: Poll, tree_hash: str) -> None:
            name = poll.server.name
            knows: bool | None = poll.heads[uuid] == tree_hash or (name, tree_hash) in self._known
            if not knows:
                knows = await poll.server.has(Resource(Kind.REGISTRY, tree_hash, uuid).path)
            if knows:
                self._known.add((name, tree_hash))
            answers[name][tree_hash] = Knowledge.UNKNOWN if knows is None else Knowledge.YES if knows else Knowledge.NO

        async with trio.open_nursery() as nursery:
            for poll in heard:
                for tree_hash in hashes:
                    nursery.start_soon(ask, poll, tree_hash)
        return answers

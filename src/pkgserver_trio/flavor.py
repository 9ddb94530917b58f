"""One list of registry heads: polled, decided, published.

1. Every storage server is polled by a task of its own, so that one that hangs delays no news of another.
2. A registry is decided anew whenever a poll brought news of it, by a task of its own; only servers that answered last
   time are heard.
3. A head is published when its origin confirms it and its tarball is in the store.
4. Heads only move forward. A head is taken only from a server that knows the published one too: one that does not is
   behind, or has lost it. One that was superseded before, or is listed with an earlier date, is not taken again. What
   all servers have offered for long enough is taken all the same: it is meant.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
import trio

from pkgserver_trio.errors import ResourceUnavailableError
from pkgserver_trio.head_choice import HeadChoice
from pkgserver_trio.ledger import Adoption
from pkgserver_trio.origin_check import Outcome
from pkgserver_trio.registry_list import flavor_label, listing_name, parse_listing, render_listing
from pkgserver_trio.registry_poll import Poll
from pkgserver_trio.resource import Kind, Resource
from pkgserver_trio.rollbacks import Rollbacks
from pkgserver_trio.settings import AllRegistries, RegistryChoice

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from pkgserver_trio.ledger import Ledger
    from pkgserver_trio.origin_check import OriginVerdict
    from pkgserver_trio.upstream import StorageServer


#: How long a new head is waited for before others are considered; its download goes on, and can be joined again.
_HOLD_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """How registries follow the storage servers: what all flavors have in common.

    `hold` returns when a resource is in the store, `check_origin` tells what the origin of a registry says of a new
    head, `wall_seconds` is the time of day in Unix seconds.
    """

    servers: Sequence[StorageServer]
    hold: Callable[[Resource], Awaitable[None]]
    choices: tuple[RegistryChoice, ...] | AllRegistries
    period_seconds: float
    ledger: Ledger
    rollback_after_seconds: float
    check_origin: Callable[[str, str], Awaitable[OriginVerdict]]
    wall_seconds: Callable[[], float] = time.time

    def is_chosen(self, uuid: str) -> bool:
        """Tell whether a registry is served."""
        return isinstance(self.choices, AllRegistries) or any(uuid == choice.uuid for choice in self.choices)


class Flavor:
    """The heads that are published under one name, and how they follow the storage servers.

    `publish` writes a listing under its name; `listing` is what was written last, if anything.
    """

    def __init__(
        self,
        name: str,
        following: Following,
        *,
        publish: Callable[[str, bytes], Awaitable[None]],
        listing: bytes | None,
    ) -> None:
        self.name = name
        self.label = flavor_label(name)
        self.polls = [Poll(server, name) for server in following.servers]
        before = parse_listing(listing or b"").heads.items()
        self.published = {uuid: head for uuid, head in before if following.is_chosen(uuid)}
        self.held_back: dict[str, dict[str, str]] = {}
        """The new heads that are not taken, by registry, with what its origin says of each."""
        self.rollbacks = Rollbacks(following.rollback_after_seconds, longest_gap_seconds=3 * following.period_seconds)
        self._following = following
        self._choice = HeadChoice(self.label, following.ledger, self.rollbacks)
        self._publish = publish
        self._publishing = trio.Lock()
        self._deciding = set[str]()  # uuids
        self._told: set[tuple[str, ...]] = set()
        self._log = structlog.get_logger().bind(flavor=self.label)

    @property
    def listing(self) -> bytes | None:
        """What is published, as text; None before a first registry is known."""
        return render_listing(self.published) if self.published else None

    def heads(self) -> list[Resource]:
        """Return the registries that are published."""
        return [Resource(Kind.REGISTRY, head, uuid) for uuid, head in self.published.items()]

    def adopted_seconds(self, uuid: str) -> float | None:
        """Return when the published head of a registry was adopted, in Unix seconds; None when that is not known."""
        adoption = self._following.ledger.adoption(self.label, uuid)
        return adoption.seconds if adoption is not None and adoption.head == self.published.get(uuid) else None

    def age_seconds(self, uuid: str) -> float | None:
        """Return how long ago that was."""
        adopted = self.adopted_seconds(uuid)
        return None if adopted is None else self._following.wall_seconds() - adopted

    def date_what_is_undated(self) -> None:
        """Enter what another server has published, or this one before it had a ledger, as adopted now. Blocks."""
        ledger = self._following.ledger
        for uuid, head in self.published.items():
            if ledger.adoption(self.label, uuid) is None:
                with contextlib.suppress(OSError):  # its age stays unknown
                    ledger.adopt(self.label, uuid, Adoption(head, self._following.wall_seconds(), None))

    async def run(self) -> None:
        """Follow the storage servers for ever."""
        async with trio.open_nursery() as nursery:
            for poll in self.polls:
                nursery.start_soon(self._keep_asking, poll, nursery)

    async def _keep_asking(self, poll: Poll, nursery: trio.Nursery) -> None:
        while True:
            news = await poll.ask()
            self._complain(poll)
            for uuid, head in self._wanted(poll):
                self._choice.hear(uuid, self.heard(), self.published.get(uuid))
                if (news or self.published.get(uuid) != head) and uuid not in self._deciding:
                    self._deciding.add(uuid)
                    nursery.start_soon(self._decide, uuid)
            await trio.sleep(self._following.period_seconds)

    def heard(self) -> list[Poll]:
        """Return the polls that count: those that answered last time.

        The one list of a server without flavors is that of the most eager. For any other flavor it counts only if no
        server is known to have flavors.
        """
        with_flavors = any(poll.has_flavors for poll in self.polls)
        only_flavored = with_flavors and self.name not in {"", "eager"}
        return [poll for poll in self.polls if not poll.error and (poll.has_flavors or not only_flavored)]

    def unknown(self, poll: Poll) -> int:
        """Return how many registries a server lists that are not chosen."""
        return sum(not self._following.is_chosen(uuid) for uuid in poll.heads)

    def _complain(self, poll: Poll) -> None:
        name = poll.server.name
        ignored = {"malformed lines": poll.malformed, "registries that are not served": self.unknown(poll)}
        for what, count in ignored.items():
            if count and self._is_news(name, what):
                self._log.info("storage server lists what is ignored", server=name, what=what, count=count)
        if poll.failing and self._is_news(name, "fails"):
            self._log.warning("storage server gives no registries", server=name, error=poll.error)
        elif not poll.failing and (name, "fails") in self._told:
            self._told.remove((name, "fails"))
            self._log.info("storage server gives registries again", server=name)

    def _is_news(self, *what: str) -> bool:
        """Tell whether this was not told before; it counts as told now."""
        is_news = what not in self._told
        self._told.add(what)
        return is_news

    def _wanted(self, poll: Poll) -> list[tuple[str, str]]:
        if not any(poll is heard for heard in self.heard()):
            return []
        return [(uuid, head) for uuid, head in poll.heads.items() if self._following.is_chosen(uuid)]

    async def _decide(self, uuid: str) -> None:
        try:
            await self._follow(uuid)
        except Exception:  # noqa: BLE001 # a defect must not end what is served; the next poll tries again
            self._log.exception("defect while a registry was decided", registry=uuid)
        finally:
            self._deciding.discard(uuid)

    async def _follow(self, uuid: str) -> None:
        ranking = await self._choice.rank(uuid, self.heard(), self.published.get(uuid))
        for head in ranking.forward:
            if await self._adopt(uuid, head, ranking.dates[head]):
                break
        self._forget_held_back(uuid, ranking.forward)
        older = ranking.older_than(self.published.get(uuid))
        if older:
            now = self._following.wall_seconds()
            await trio.to_thread.run_sync(self._following.ledger.pass_over, self.label, uuid, older, now)

    def _forget_held_back(self, uuid: str, offered: Collection[str]) -> None:
        """Hold back only what is still offered, and not published by now."""
        for head in list(self.held_back.get(uuid, ())):
            if head not in offered or head == self.published.get(uuid):
                del self.held_back[uuid][head]
        if not self.held_back.get(uuid, True):
            del self.held_back[uuid]

    async def _is_from_origin(self, uuid: str, head: str) -> bool:
        verdict = await self._following.check_origin(uuid, head)
        if verdict.outcome in {Outcome.CONFIRMED, Outcome.UNCHECKED}:
            self.held_back.get(uuid, {}).pop(head, None)
            return True
        outcome = verdict.outcome.value
        self.held_back.setdefault(uuid, {})[head] = f"{outcome}: {verdict.reason}"
        if self._is_news(uuid, head, outcome):
            event = "new registry head is held back: its origin does not confirm it (PKGSERVER_ORIGIN_CHECK)"
            self._log.warning(event, registry=uuid, head=head, outcome=outcome, reason=verdict.reason)
        return False

    async def _adopt(self, uuid: str, head: str, listed_seconds: float | None) -> bool:
        if not await self._is_from_origin(uuid, head):
            return False
        try:
            with trio.fail_after(_HOLD_SECONDS):
                await self._following.hold(Resource(Kind.REGISTRY, head, uuid))
            await self._replace(uuid, Adoption(head, self._following.wall_seconds(), listed_seconds))
        except (ResourceUnavailableError, OSError, trio.TooSlowError) as error:
            if self._is_news(uuid, head, type(error).__name__):
                self._log.warning("new registry head is not to be had", registry=uuid, head=head, error=str(error))
            return False
        self._log.info("published registry head", registry=uuid, head=head)
        return True

    async def _replace(self, uuid: str, adoption: Adoption) -> None:
        async with self._publishing:
            await trio.to_thread.run_sync(self._following.ledger.adopt, self.label, uuid, adoption)
            listing = render_listing({**self.published, uuid: adoption.head})
            await self._publish(listing_name(self.name), listing)
            self.published[uuid] = adoption.head
            self._told = {told for told in self._told if told[0] != uuid}

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

import time
from typing import TYPE_CHECKING

import structlog
import trio

from pkgserver_trio.errors import ResourceUnavailableError
from pkgserver_trio.head_choice import HeadChoice
from pkgserver_trio.ledger import Adoption
from pkgserver_trio.origin_check import Outcome
from pkgserver_trio.registry_list import listing_name, parse_listing, render_listing
from pkgserver_trio.registry_poll import Poll
from pkgserver_trio.resource import Kind, Resource
from pkgserver_trio.rollbacks import Rollbacks
from pkgserver_trio.settings import AllRegistries, RegistryChoice

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pkgserver_trio.ledger import Ledger
    from pkgserver_trio.origin_check import OriginVerdict
    from pkgserver_trio.supervise import Turns
    from pkgserver_trio.upstream import StorageServer


#: How long a new head is waited for before others are considered; its download goes on, and can be joined again.
_HOLD_SECONDS = 60


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
        ledger: Ledger,
        rollback_after_seconds: float,
        check_origin: Callable[[str, str], Awaitable[OriginVerdict]],
        turns: Turns,
    ) -> None:
        self.name = name
        self.held_back: dict[str, str] = {}
        """Why a new head of a registry is not taken, by uuid: what its origin says of it."""
        self.polls = [Poll(server, name) for server in servers]
        self._hold = hold
        self._chosen = None if isinstance(choices, AllRegistries) else {choice.uuid for choice in choices}
        before = parse_listing(listing or b"").heads.items()
        self.published = {uuid: head for uuid, head in before if self._is_chosen(uuid)}
        self._period_seconds = period_seconds
        self._publish = publish
        self._publishing = trio.Lock()
        self._complained = complained  # names of the servers that were said to fail; shared by all flavors
        self._deciding = set[str]()  # uuids
        self._ledger = ledger
        self.rollbacks = Rollbacks(rollback_after_seconds)
        self._choice = HeadChoice(name, ledger, self.rollbacks)
        self._check_origin = check_origin
        self._turns = turns
        self._log = structlog.get_logger().bind(flavor=name or "(flavorless)")

    @property
    def listing(self) -> bytes | None:
        """What is published, as text; None before a first registry is known."""
        return render_listing(self.published) if self.published else None

    def heads(self) -> list[Resource]:
        """Return the registries that are published."""
        return [Resource(Kind.REGISTRY, head, uuid) for uuid, head in self.published.items()]

    def adopted_seconds(self, uuid: str) -> float | None:
        """Return when the published head of a registry was adopted, in Unix seconds; None when that is not known."""
        adoption = self._ledger.adoption(self.name, uuid)
        return adoption.seconds if adoption is not None and adoption.head == self.published.get(uuid) else None

    async def run(self) -> None:
        """Follow the storage servers for ever."""
        async with trio.open_nursery() as nursery:
            for poll in self.polls:
                nursery.start_soon(self._keep_asking, poll, nursery)

    async def _keep_asking(self, poll: Poll, nursery: trio.Nursery) -> None:
        while True:
            self._turns.begin(f"{self.name} {poll.server.name}")
            news = await poll.ask()
            self._complain(poll)
            for uuid, head in self._wanted(poll):
                self._choice.hear(uuid, self.heard(), self.published.get(uuid))
                if (news or self.published.get(uuid) != head) and uuid not in self._deciding:
                    self._deciding.add(uuid)
                    nursery.start_soon(self._decide, uuid)
            await trio.sleep(self._period_seconds)

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
        return sum(not self._is_chosen(uuid) for uuid in poll.heads)

    def _complain(self, poll: Poll) -> None:
        name = poll.server.name
        ignored = {"malformed lines": poll.malformed, "registries that are not served": self.unknown(poll)}
        for what, count in ignored.items():
            if count and f"{name} {what}" not in self._complained:
                self._complained.add(f"{name} {what}")
                self._log.info("storage server lists what is ignored", server=name, what=what, count=count)
        if poll.failing and name not in self._complained:
            self._complained.add(name)
            self._log.warning("storage server gives no registries", server=name, error=poll.error)
        elif not poll.failing and name in self._complained:
            self._complained.remove(name)
            self._log.info("storage server gives registries again", server=name)

    def _wanted(self, poll: Poll) -> list[tuple[str, str]]:
        if not any(poll is heard for heard in self.heard()):
            return []
        return [(uuid, head) for uuid, head in poll.heads.items() if self._is_chosen(uuid)]

    def _is_chosen(self, uuid: str) -> bool:
        return self._chosen is None or uuid in self._chosen

    async def _decide(self, uuid: str) -> None:
        try:
            self._turns.begin(f"{self.name} {uuid}")
            await self._follow(uuid)
        except Exception:  # noqa: BLE001 # a defect must not end what is served; the next poll tries again
            self._log.exception("defect while a registry was decided", registry=uuid)
        finally:
            self._turns.leave(f"{self.name} {uuid}")
            self._deciding.discard(uuid)

    async def _follow(self, uuid: str) -> None:
        ranking = await self._choice.rank(uuid, self.heard(), self.published.get(uuid))
        for head in ranking.forward:
            self._turns.begin(f"{self.name} {uuid}")
            if await self._adopt(uuid, head, ranking.dates[head]):
                break
        older = ranking.older_than(self.published.get(uuid))
        if older:
            await trio.to_thread.run_sync(self._ledger.pass_over, self.name, uuid, older, time.time())

    async def _is_from_origin(self, uuid: str, head: str) -> bool:
        verdict = await self._check_origin(uuid, head)
        if verdict.outcome in {Outcome.CONFIRMED, Outcome.UNCHECKED}:
            self.held_back.pop(uuid, None)
            return True
        told = f"{verdict.outcome.value}: {head}"
        if not self.held_back.get(uuid, "").startswith(told):
            self._log.warning(
                "new registry head is held back: its origin does not confirm it",
                registry=uuid,
                head=head,
                outcome=verdict.outcome.value,
                reason=verdict.reason,
            )
        self.held_back[uuid] = f"{told}: {verdict.reason}"
        return False

    async def _adopt(self, uuid: str, head: str, listed_seconds: float | None) -> bool:
        if not await self._is_from_origin(uuid, head):
            return False
        try:
            with trio.fail_after(_HOLD_SECONDS):
                await self._hold(Resource(Kind.REGISTRY, head, uuid))
            async with self._publishing:
                adoption = Adoption(head, time.time(), listed_seconds)
                await trio.to_thread.run_sync(self._ledger.adopt, self.name, uuid, adoption)
                listing = render_listing({**self.published, uuid: head})
                await self._publish(listing_name(self.name), listing)
                self.published[uuid] = head
        except (ResourceUnavailableError, OSError, trio.TooSlowError) as error:
            self._log.warning("new registry head is not to be had", registry=uuid, head=head, error=str(error))
            return False
        self._log.info("published registry head", registry=uuid, head=head)
        return True

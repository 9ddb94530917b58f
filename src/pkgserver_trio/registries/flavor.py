"""One list of registry heads: polled, decided, published.

1. Every storage server is polled by a task of its own, so that one that hangs delays no news of another.
2. A registry is decided anew whenever a poll brought news of it, by a task of its own; only servers that answered last
   time are heard.
3. Heads only move forward (`head_choice`), and are published once they can be served (`publication`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from pkgserver_trio.registries.head_choice import HeadChoice
from pkgserver_trio.registries.poll import Poll
from pkgserver_trio.registries.publication import Following, Publication
from pkgserver_trio.registries.rollbacks import Rollbacks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pkgserver_trio.supervise import Turns


class Flavor(Publication):
    """A publication that follows the storage servers."""

    def __init__(
        self,
        name: str,
        following: Following,
        *,
        publish: Callable[[str, bytes], Awaitable[None]],
        listing: bytes | None,
        turns: Turns,
    ) -> None:
        super().__init__(name, following, publish=publish, listing=listing)
        self.polls = [Poll(server, name) for server in following.servers]
        self.rollbacks = Rollbacks(following.rollback_after_seconds, longest_gap_seconds=3 * following.period_seconds)
        self._choice = HeadChoice(
            self.label,
            following.ledger,
            self.rollbacks,
            servers=len(self.polls),
            wall_seconds=following.wall_seconds,
        )
        self._deciding = set[str]()  # uuids
        self._turns = turns

    async def run(self) -> None:
        """Follow the storage servers for ever."""
        async with trio.open_nursery() as nursery:
            for poll in self.polls:
                nursery.start_soon(self._keep_asking, poll, nursery)

    async def _keep_asking(self, poll: Poll, nursery: trio.Nursery) -> None:
        while True:
            self._turns.begin(f"{self.label} {poll.server.name}")
            try:
                await self._ask(poll, nursery)
            except Exception:  # noqa: BLE001 # a defect must not end what is served; the next turn tries again
                self._log.exception("defect while a storage server was asked", server=poll.server.name)
            await trio.sleep(self._following.period_seconds)

    async def _ask(self, poll: Poll, nursery: trio.Nursery) -> None:
        news = await poll.ask()
        self._complain(poll)
        for uuid, head in self._wanted(poll):
            self._choice.hear(uuid, self.heard(), self.published.get(uuid))
            if (news or self.published.get(uuid) != head) and uuid not in self._deciding:
                self._deciding.add(uuid)
                nursery.start_soon(self._decide, uuid)

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

    def _wanted(self, poll: Poll) -> list[tuple[str, str]]:
        if not any(poll is heard for heard in self.heard()):
            return []
        return [(uuid, head) for uuid, head in poll.heads.items() if self._following.is_chosen(uuid)]

    async def _decide(self, uuid: str) -> None:
        try:
            self._turns.begin(f"{self.label} {uuid}")
            await self._follow(uuid)
        except Exception:  # noqa: BLE001 # a defect must not end what is served; the next poll tries again
            self._log.exception("defect while a registry was decided", registry=uuid)
        finally:
            self._turns.leave(f"{self.label} {uuid}")
            self._deciding.discard(uuid)

    async def _follow(self, uuid: str) -> None:
        ranking = await self._choice.rank(uuid, self.heard(), self.published.get(uuid))
        for offer in ranking.forward:
            self._turns.begin(f"{self.label} {uuid}")
            if await self._adopt(uuid, offer):
                break
        self._forget_held_back(uuid, [offer.head for offer in ranking.forward])
        older = ranking.older_than(self.published.get(uuid))
        if older:
            now = self._following.wall_seconds()
            await trio.to_thread.run_sync(self._following.ledger.pass_over, self.label, uuid, older, now)

"""What is published under one name: on disk before it is served, in the ledger before that.

A head is published when its origin confirms it and its tarball is in the store.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
import trio

from pkgserver_trio.errors import ResourceUnavailableError
from pkgserver_trio.registries.ledger import Adoption
from pkgserver_trio.registries.origin_check import Outcome
from pkgserver_trio.registry_list import flavor_label, listing_name, parse_listing, render_listing
from pkgserver_trio.resource import Kind, Resource
from pkgserver_trio.settings import AllRegistries, RegistryChoice
from pkgserver_trio.upstream.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from pkgserver_trio.registries.head_choice import Offer
    from pkgserver_trio.registries.ledger import Ledger
    from pkgserver_trio.registries.origin_check import OriginVerdict
    from pkgserver_trio.upstream.storage_servers import StorageServer

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


class Publication:
    """The heads that are published under one name, and how a new one gets there.

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
        before = parse_listing(listing or b"").heads.items()
        self.published = {uuid: head for uuid, head in before if following.is_chosen(uuid)}
        self.held_back: dict[str, dict[str, str]] = {}
        """The new heads that are not taken, by registry, with what its origin says of each."""
        self._following = following
        self._publish = publish
        self._publishing = trio.Lock()
        self._told: set[tuple[str, ...]] = set()
        self._backoffs: dict[tuple[str, str], Backoff] = {}  # of heads that cannot be had
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
                    ledger.adopt(self.label, uuid, Adoption(head, self._following.wall_seconds()))

    def _is_news(self, *what: str) -> bool:
        """Tell whether this was not told before; it counts as told now."""
        is_news = what not in self._told
        self._told.add(what)
        return is_news

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

    async def _adopt(self, uuid: str, offer: Offer) -> bool:
        head = offer.head
        backoff = self._backoffs.setdefault((uuid, head), Backoff())
        if backoff.is_resting(trio.current_time()) or not await self._is_from_origin(uuid, head):
            return False
        try:
            with trio.fail_after(_HOLD_SECONDS):
                await self._following.hold(Resource(Kind.REGISTRY, head, uuid))
            await self._replace(uuid, offer)
        except (ResourceUnavailableError, OSError, trio.TooSlowError) as error:
            backoff.fail(trio.current_time())
            if self._is_news(uuid, head, type(error).__name__):
                self._log.warning("new registry head is not to be had", registry=uuid, head=head, error=str(error))
            return False
        self._log.info("published registry head", registry=uuid, head=head)
        return True

    async def _replace(self, uuid: str, offer: Offer) -> None:
        now = self._following.wall_seconds()
        listed = None if offer.listed_seconds is None else min(offer.listed_seconds, now)  # a clock may be ahead
        adoption = Adoption(offer.head, now, listed, offer.server.name)
        async with self._publishing:
            await trio.to_thread.run_sync(self._following.ledger.adopt, self.label, uuid, adoption)
            listing = render_listing({**self.published, uuid: adoption.head})
            await self._publish(listing_name(self.name), listing)
            self.published[uuid] = adoption.head
            self._told = {told for told in self._told if told[0] != uuid}
            self._backoffs = {key: backoff for key, backoff in self._backoffs.items() if key[0] != uuid}

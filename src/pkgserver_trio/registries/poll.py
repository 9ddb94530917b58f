"""What one storage server says about one list of registries, asked again and again.

A server may have the flavor asked for, or no flavors at all, and may change from one to the other: one that has no list
of any flavor is asked for `/registries`, and now and then again for the flavor.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from pkgserver_trio.errors import AbsentError, UpstreamError
from pkgserver_trio.registry_list import FLAVORS, listing_name, parse_listing
from pkgserver_trio.validators import parse_http_date

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pkgserver_trio.upstream.storage_servers import ListingAnswer, StorageServer

#: Every so often a listing is asked for without its validator: tags that a file server made of times can lie. And a
#: server without flavors is asked whether it has them by now.
UNCONDITIONAL_SECONDS = 60
_NOT_ASKED = "not asked yet"


@dataclass
class Poll:
    """What one storage server said last about one flavor (empty: none). Times are Trio's, in seconds."""

    server: StorageServer
    flavor: str
    heads: Mapping[str, str] = field(default_factory=dict)
    malformed: int = 0
    """Lines of the listing that name no registry, or one that is named twice."""
    has_flavors: bool | None = None
    """Whether the server has lists by flavor; None while it is not known, or not asked for."""
    etag: str | None = None
    last_modified: float | None = None
    asked_whole: float = float("-inf")
    succeeded: float | None = None
    succeeded_seconds: float | None = None
    """The same in Unix seconds."""
    error: str | None = _NOT_ASKED
    _looked_for_others: float = float("-inf")

    @property
    def failing(self) -> bool:
        """The last question was not answered."""
        return self.error not in {None, _NOT_ASKED}

    async def ask(self) -> bool:
        """Ask the server for its listing; tell whether there is news. Raises nothing: `error` says what failed."""
        now = trio.current_time()
        is_due = self.error is not None or now - self.asked_whole >= UNCONDITIONAL_SECONDS
        before = (self.heads, self.error)
        try:
            await self._ask(whole=is_due)
        except UpstreamError as failure:
            self.error = failure.reason
        if is_due and self.error is None:
            self.asked_whole = now
        return before != (self.heads, self.error)

    async def _ask(self, *, whole: bool) -> None:
        etag = None if whole else self.etag
        if self.flavor and (whole or self.has_flavors):
            absence: AbsentError | None = None
            try:
                self._hear(await self.server.fetch_listing(f"/{listing_name(self.flavor)}", etag))
            except AbsentError as error:
                absence, etag = error, None  # the tag is that of another list
            if absence is None:
                self.has_flavors = True
                return
            if not await self._may_be_flavorless():
                raise absence
        self._hear(await self.server.fetch_listing(f"/{listing_name('')}", etag))
        self.has_flavors = False if self.flavor else None

    async def _may_be_flavorless(self) -> bool:
        """Tell whether the server has no list of any flavor; a list that is only missing is replaced by no other."""
        if self.has_flavors is False:
            return True
        if trio.current_time() - self._looked_for_others < UNCONDITIONAL_SECONDS:
            return False
        self._looked_for_others = trio.current_time()
        for other in FLAVORS:
            if other != self.flavor and await self.server.has(f"/{listing_name(other)}") is not False:
                return False
        return True

    def _hear(self, answer: ListingAnswer | None) -> None:
        self.error = None
        if answer is not None:
            listing = parse_listing(answer.body)
            self.heads, self.malformed = listing.heads, listing.malformed
            self.error = None if self.heads else "its listing names no registry"
            self.etag = answer.etag
            self.last_modified = parse_http_date(answer.last_modified) if answer.last_modified else None
        if self.error is None:
            self.succeeded, self.succeeded_seconds = trio.current_time(), time.time()

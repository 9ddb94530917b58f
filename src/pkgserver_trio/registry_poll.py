"""What one storage server says about one list of registries, asked again and again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from pkgserver_trio.errors import UpstreamError
from pkgserver_trio.registry_list import parse_listing
from pkgserver_trio.validators import parse_http_date

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pkgserver_trio.upstream import ListingAnswer, StorageServer

#: Every so often a listing is asked for without its validator: tags that a file server made of times can lie.
UNCONDITIONAL_SECONDS = 60
_NOT_ASKED = "not asked yet"


@dataclass
class Poll:
    """What one storage server said last about one flavor. Times are Trio's, in seconds."""

    server: StorageServer
    heads: Mapping[str, str] = field(default_factory=dict)
    etag: str | None = None
    last_modified: float | None = None
    asked_whole: float = float("-inf")
    succeeded: float | None = None
    error: str | None = _NOT_ASKED

    @property
    def failing(self) -> bool:
        """The last question was not answered."""
        return self.error not in {None, _NOT_ASKED}

    async def ask(self, name: str) -> bool:
        """Ask the server for its listing; tell whether there is news. Raises nothing: `error` says what failed."""
        now = trio.current_time()
        conditional = self.error is None and now - self.asked_whole < UNCONDITIONAL_SECONDS
        before = (self.heads, self.error)
        try:
            answer = await self.server.fetch_listing(f"/{name}", self.etag if conditional else None)
        except UpstreamError as failure:
            self.error = failure.reason
        else:
            self._hear(answer, now)
        return before != (self.heads, self.error)

    def _hear(self, answer: ListingAnswer | None, now: float) -> None:
        self.error = None
        if answer is not None:
            self.heads = parse_listing(answer.body).heads
            self.error = None if self.heads else "its listing names no registry"
            self.etag, self.asked_whole = answer.etag, now
            self.last_modified = parse_http_date(answer.last_modified) if answer.last_modified else None
        if self.error is None:
            self.succeeded = trio.current_time()

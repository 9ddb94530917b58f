"""What a download needs of whoever has a copy: a storage server, or the origin of one version of an object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from pkgserver_trio.statistics import ServerTally
    from pkgserver_trio.upstream.backoff import Backoff


@dataclass(frozen=True, slots=True)
class Head:
    """What a response head says of a resource: its size in bytes, None when it does not say; its strong validator."""

    size_bytes: int | None
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class Body:
    """A resource on its way: what the head said, the byte that the pieces begin with, and the pieces."""

    head: Head
    start: int
    pieces: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Rest:
    """What is still missing of a resource: all from byte `start` on, of the copy that `etag` names."""

    start: int
    etag: str

    @property
    def headers(self) -> dict[str, str]:
        """What asks for it (RFC 9110, 14.2 and 13.1.5)."""
        return {"Range": f"bytes={self.start}-", "If-Range": self.etag}


class Server(Protocol):
    """Who may have a copy. `name` is fit to be shown, `tally` counts what happens with all servers of that name."""

    name: str
    backoff: Backoff
    tally: ServerTally

    async def probe(self, path: str) -> Head:
        """Tell what it has at `path`. Raises AbsentError, SilentError, BrokenError."""

    def open_body(
        self, path: str, *, rest: Rest | None = None, patience: float = 1, least_bytes: int = 0
    ) -> AbstractAsyncContextManager[Body]:
        """Open what it has at `path`, as `StorageServer.open_body` does. Raises AbsentError, SilentError, BrokenError.

        It need not honour `rest`: see `Body.start`.
        """

"""What the log says of one request, and of the client that sent it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pkgserver_trio.printable import printable
from pkgserver_trio.registry_list import is_ci

if TYPE_CHECKING:
    from collections.abc import Sequence

    Headers = Sequence[tuple[bytes, bytes]]

#: No version and no triplet is longer.
_MAX_LENGTH = 128


class Delivered(Protocol):
    """What a storage server delivers, or did; `server` is its name, None before there is one."""

    server: str | None


@dataclass(slots=True)
class RequestLine:
    """One request, as far as it has come."""

    method: str
    path: str
    headers: Headers
    """With lower-case names."""
    peer: str = ""
    cache: str = ""
    """`hit`, `miss` or `coalesced`; empty where no resource was asked for."""
    flight: Delivered | None = None
    status: int = 0
    """0 when the client left before there was an answer."""
    body_bytes: int = 0
    complete: bool = False

    def words(self, seconds: float) -> dict[str, object]:
        """Return the line's words; `seconds` is how long it all took."""
        said = dict(self.headers)
        return {
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "bytes": self.body_bytes,
            "seconds": round(seconds, 6),
            "cache": self.cache,
            "server": (self.flight.server if self.flight else None) or "",
            "julia": _text(said.get(b"julia-version")),
            "system": _text(said.get(b"julia-system")),
            "ci": is_ci(_text(said.get(b"julia-ci-variables"), 1000)),
            "interactive": said.get(b"julia-interactive") == b"true",
            "peer": self.peer,
            "complete": self.complete,
        }


def _text(value: bytes | None, limit: int = _MAX_LENGTH) -> str:
    return printable((value or b"").decode("latin-1"), limit)

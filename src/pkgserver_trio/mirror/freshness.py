"""How long an answer of an origin may be served without asking it again (RFC 9111, section 4.2). Pure; in seconds."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pkgserver_trio.validators import parse_http_date

if TYPE_CHECKING:
    from collections.abc import Mapping

#: A pointer tells what the newest of something is: nobody may learn that later than this.
POINTER_SECONDS: Final = 60
_LONGEST_SECONDS: Final = 31_536_000
_DIRECTIVE = re.compile(r"""\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*(?:=\s*("[^"]*"|[^,\s]*))?\s*(?:,|\Z)""")
_NEVER_KEPT = frozenset({"no-store", "private"})
_ASK_FIRST = frozenset({"no-cache", "must-revalidate", "proxy-revalidate", "s-maxage"})


@dataclass(frozen=True, slots=True)
class Freshness:
    """Whether an answer may be kept, how long it is fresh from when it was asked for, and whether it may be stale.

    `may_lag`: it may be served while it is being asked for anew; `may_outlive`: also when its origin fails.
    """

    kept: bool
    seconds: float
    may_lag: bool
    may_outlive: bool

    def of_pointer(self) -> Freshness:
        """Return what may be made of it for a pointer: asked about every minute, and never behind while it can be."""
        return replace(self, seconds=min(self.seconds, POINTER_SECONDS), may_lag=False)


def freshness_of(headers: Mapping[str, str], *, ttl_seconds: float, pointer: bool) -> Freshness:
    """Return what an origin's headers, with names in lower case, say; `ttl_seconds` is for those that say nothing."""
    directives = _directives(headers.get("cache-control", ""))
    kept = not _NEVER_KEPT & directives.keys() and "set-cookie" not in headers
    lifetime = _lifetime(headers, directives, ttl_seconds)
    if pointer:
        lifetime = min(lifetime, POINTER_SECONDS)  # in all: what another cache has kept for a minute is old already
    fresh = min(max(lifetime - _age(headers), 0), _LONGEST_SECONDS)
    strict = bool(_ASK_FIRST & directives.keys())
    freshness = Freshness(kept, fresh, may_lag=not strict, may_outlive=not strict)
    return freshness.of_pointer() if pointer else freshness


def _lifetime(headers: Mapping[str, str], directives: Mapping[str, str], ttl_seconds: float) -> float:
    if "no-cache" in directives:
        return 0
    for name in ("s-maxage", "max-age"):
        if name in directives:
            return _seconds(directives[name])
    if "expires" not in headers:
        return ttl_seconds
    expires, date = parse_http_date(headers["expires"]), parse_http_date(headers.get("date", ""))
    # Without a Date nothing says how long that is; what is no date is over (RFC 9111, 5.3).
    return 0 if expires is None or date is None else expires - date


def _age(headers: Mapping[str, str]) -> int:
    """Return for how long caches between the origin and this server had it."""
    return _seconds(headers.get("age", ""))


def _seconds(text: str) -> int:
    """Return a delta-seconds, the longest for one that is too long; 0 for what is none: the least that it can mean."""
    text = text.strip().strip('"')
    if not (text.isascii() and text.isdigit()):
        return 0
    return min(int(text[:10]), _LONGEST_SECONDS)


def _directives(text: str) -> dict[str, str]:
    """Return the directives of a Cache-Control; of two with one name the first counts."""
    found: dict[str, str] = {}
    for name, value in _DIRECTIVE.findall(text):
        found.setdefault(name.lower(), value)
    return found

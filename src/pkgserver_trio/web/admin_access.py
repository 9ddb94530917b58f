"""Who may use `/admin`: what makes credentials right, and how often wrong ones are answered as usual. Pure.

Right credentials pass at once, whatever others behind the same address have tried: so only failures are counted.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final

_USER: Final = b"admin"
_BASIC: Final = re.compile(r"basic +([A-Za-z0-9+/]+={0,2}) *", re.IGNORECASE)
#: Failures of one peer that are answered as usual at once, and how long it takes until one more is, in seconds.
AT_ONCE: Final = 10
PAUSE_SECONDS: Final = 6.0
MAX_PEERS: Final = 4096


def is_admin(authorization: str, token_sha256: str) -> bool:
    """Tell whether an `Authorization` header has user and password (RFC 7617); this takes the same time in each case.

    `token_sha256` is the SHA-256 of the password's bytes, 64 lower-case hexadecimal digits.
    """
    user, _, password = _credentials(authorization).partition(b":")
    is_user = hmac.compare_digest(user, _USER)
    is_password = hmac.compare_digest(hashlib.sha256(password).hexdigest(), token_sha256)
    return is_user and is_password


def is_from_another_site(fetch_site: str | None, origin: str | None) -> bool:
    """Tell whether a request that changes something may have been made by a page of another site, in a browser.

    A browser lends the credentials that it knows to what any page asks for, and says of it `Sec-Fetch-Site` over HTTPS
    (W3C, Fetch Metadata) and `Origin` everywhere (WHATWG, Fetch); other clients say neither.
    """
    return origin is not None if fetch_site is None else fetch_site not in {"same-origin", "none"}


def _credentials(authorization: str) -> bytes:
    match = _BASIC.fullmatch(authorization)
    try:
        return base64.b64decode(match[1], validate=True) if match else b""
    except binascii.Error:
        return b""


@dataclass(frozen=True, slots=True)
class Failure:
    """What to do about one failed attempt: `wait_seconds` is 0, or how long until one is answered as usual again.

    `unheard` is how many were not answered as usual since the last that was.
    """

    wait_seconds: float
    unheard: int


class Failures:
    """The failed attempts of each peer, the last `MAX_PEERS` of them."""

    def __init__(self) -> None:
        self._peers: dict[str, tuple[float, int]] = {}  # when all is forgotten, and the unheard ones

    def count(self, peer: str, now: float) -> Failure:
        """Count one more, at `now` in seconds of a clock that does not jump."""
        forgotten, unheard = self._peers.pop(peer, (now, 0))
        forgotten = max(forgotten, now) + PAUSE_SECONDS
        wait_seconds = forgotten - now - AT_ONCE * PAUSE_SECONDS
        if wait_seconds > 0:
            self._peers[peer] = (forgotten - PAUSE_SECONDS, unheard + 1)
            return Failure(wait_seconds, unheard)
        self._peers[peer] = (forgotten, 0)
        if len(self._peers) > MAX_PEERS:
            del self._peers[next(iter(self._peers))]
        return Failure(0, unheard)

"""What operators ask while clients load the server: the cache changed and looked at, the log watched. Pure.

A removal may cost a later client its hit, and nothing else: the judge knows no exception for it.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Final

from tests.soak.asks import Ask, Conduct, Planner

if TYPE_CHECKING:
    from collections.abc import Callable

_PASSWORD: Final = "dice"  # of a server that lives for a soak
PASSWORD_SHA256: Final = hashlib.sha256(_PASSWORD.encode()).hexdigest()
#: More than any page, so that only who watches the log leaves before the end.
_PAGE_BYTES: Final = 100_000
_LEVELS: Final = ("debug", "info", "warning")


def _credentials(password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'admin:{password}'.encode()).decode()}"}


class OperatorPlanner(Planner):
    """The dice of one operator."""

    def next_ask(self) -> Ask:
        """Return what the operator asks next."""
        kinds: dict[Callable[[], Ask], int] = {
            self._removal: 30,
            lambda: _admin("/admin/cache/verify", 202, 409, method="POST"): 5,
            lambda: _admin("/admin/cache/verify", 200): 10,
            lambda: _admin("/admin/flights", 200): 10,
            lambda: _admin(f"/admin/logs?level={self._random.choice(_LEVELS)}&color=false", 200, 503): 10,
            lambda: Ask(path="/admin/flights", headers=_credentials("guess"), expected=frozenset({401, 429})): 2,
            lambda: Ask(path="/metrics"): 10,
            lambda: Ask(path="/meta/stats"): 10,
        }
        return self._random.choices(list(kinds), list(kinds.values()))[0]()

    def next_conduct(self) -> Conduct:
        """Return how the operator takes its next answer: all of a page, a part of a log, or that slowly."""
        most = _PAGE_BYTES + int(self._random.expovariate(1 / _PAGE_BYTES))
        pauses = (self._random.uniform(0.1, 1),) * 5 if self._random.random() < 0.2 else ()
        return Conduct(leaves_after=most, pauses=pauses)

    def _removal(self) -> Ask:
        return _admin(f"/admin/cache{self._tarball().path}", 204, 404, 409, method="DELETE")


def _admin(path: str, *expected: int, method: str = "GET") -> Ask:
    return Ask(path=path, method=method, headers=_credentials(_PASSWORD), expected=frozenset(expected))

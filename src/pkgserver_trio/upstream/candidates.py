"""Which storage servers may still be asked for one resource, and what becomes of it when none is left.

A server that does not have it, or has it wrong, is not asked again. One that failed while it sent its copy, or was not
given its full time, gets a second chance, after all others. One that rests after repeated failures is asked only when
no other is left, and only one such.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkgserver_trio.errors import (
    AbsentError,
    BrokenError,
    CorruptError,
    ResourceUnavailableError,
    UpstreamError,
    verdict,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pkgserver_trio.upstream.copies import Server

_CHANCES = 2


class Candidates:
    """The storage servers, in the operator's order, and their failures with this resource. Times are Trio's."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.failures: list[UpstreamError] = []
        self._chances = dict.fromkeys(servers, _CHANCES)
        self._roused = False

    def pick(self, now: float) -> list[Server]:
        """Return whom to ask now, all at once; nobody when all have failed."""
        if first := self._first(now):
            return first
        left = [server for server, chances in self._chances.items() if chances]
        if not left or self._roused or any(isinstance(failure, AbsentError) for failure in self.failures):
            return []
        self._roused = True
        return [min(left, key=lambda server: server.backoff.rests_until)]

    def _first(self, now: float) -> list[Server]:
        """Return those that do not rest and have most chances left."""
        awake = [server for server, chances in self._chances.items() if chances and not server.backoff.is_resting(now)]
        most = max((self._chances[server] for server in awake), default=0)
        return [server for server in awake if self._chances[server] == most]

    def is_last(self, server: Server, now: float) -> bool:
        """Tell whether nobody is left who was not given his time before, or the server is not asked again."""
        return self._chances[server] == 1 or not set(self._first(now)) - {server}

    def note(self, server: Server, failure: UpstreamError, now: float, *, may_retry: bool = False) -> None:
        """Note a failure, here and in the server's record."""
        self.failures.append(failure)
        server.tally.fail(failure)
        self._chances[server] = self._chances[server] - 1 if may_retry else 0
        # Neither speaks for or against the server: one that answers every HEAD may still never deliver.
        if not isinstance(failure, AbsentError | CorruptError):
            server.backoff.fail(now)

    def verdict(self, name: str) -> ResourceUnavailableError:
        """Return what becomes of the resource called `name`."""
        told = {failure.server for failure in self.failures}
        unasked = [server.name for server in self._chances if server.name not in told]
        resting = [BrokenError(server, "left alone after repeated failures") for server in unasked]
        return verdict(name, [*self.failures, *resting])

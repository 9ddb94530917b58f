"""When a storage server that keeps failing is left alone, and when it is tried again.

A few failures in a row are bad luck. After more, the server rests for a time that doubles with each further failure, up
to a minute; then one attempt decides. Times are seconds of any clock that only moves forward.
"""

from __future__ import annotations

from math import inf
from typing import Final

TOLERATED_FAILURES: Final = 2
FIRST_REST_SECONDS: Final = 1.0
LONGEST_REST_SECONDS: Final = 60.0
#: After how long without a failure the next one is bad luck again.
FORGIVEN_SECONDS: Final = 300.0


class Backoff:
    """The record of one server."""

    def __init__(self) -> None:
        self._failures = 0
        self._failed_at = -inf
        self.rests_until = -inf

    def is_resting(self, now: float) -> bool:
        """Tell whether the server is to be left alone."""
        return now < self.rests_until

    def succeed(self) -> None:
        """Note that the server delivered: all is forgiven."""
        self._failures, self.rests_until = 0, -inf

    def fail(self, now: float) -> None:
        """Note that the server failed to answer, or to deliver."""
        if self.is_resting(now):
            return  # it was asked before it rested: the same outage, told by one of many
        if now - self._failed_at > FORGIVEN_SECONDS:
            self._failures = 0
        self._failed_at = now
        self._failures += 1
        excess = self._failures - TOLERATED_FAILURES
        if excess > 0:
            doubled = FIRST_REST_SECONDS * 2.0 ** min(excess - 1, 30)  # bounded, or it would overflow after days
            self.rests_until = now + min(doubled, LONGEST_REST_SECONDS)

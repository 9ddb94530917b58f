"""What the server counts: plain numbers, changed on one thread, read by `/metrics` and `/meta/stats`.

Nothing here grows with what clients ask for: all labels come from a fixed set, and `recent` is bounded.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_left
from collections import Counter
from contextlib import contextmanager
from enum import StrEnum
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from pkgserver_trio.errors import BrokenError, CorruptError, SilentError
from pkgserver_trio.recent import Recent
from pkgserver_trio.resource import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pkgserver_trio.errors import UpstreamError
    from pkgserver_trio.resource import Resource

OTHER: Final = "<other>"
#: What requests are grouped by.
TARGETS: Final = ("/", "/meta", "/registries", "/metrics", "/registry", "/package", "/artifact", "/mirror", OTHER)
_TARGET = re.compile(r"(/(?:registries|metrics)?|/meta)\Z|(/meta|/registry|/package|/artifact|/mirror)/")

_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)
_PROBE_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_DELAY_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)


class Outcome(StrEnum):
    """What became of a request for a resource."""

    HIT = "hit"
    """It was in the cache."""
    MISS = "miss"
    """It was downloaded for this request."""
    COALESCED = "coalesced"
    """It joined a download that was under way."""
    ABSENT = "absent"
    """No storage server has it."""
    FAILED = "failed"
    """It could not be served, though it may exist."""


class Histogram:
    """How often a value was at most each of `bounds`, in ascending order."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.sum: float = 0
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[float, int]]:
        """Return how many values were at most each bound, and as the last how many there were."""
        return list(zip((*self._bounds, float("inf")), accumulate(self._counts), strict=True))


class ServerTally:
    """What happened with one storage server."""

    def __init__(self) -> None:
        self.received_bytes = 0
        self.probe_seconds = Histogram(_PROBE_SECONDS)
        self.silent = self.broken = self.corrupt = 0

    def fail(self, failure: UpstreamError) -> None:
        """Count a failure; that a server does not have a resource is none."""
        self.silent += isinstance(failure, SilentError)
        self.broken += isinstance(failure, BrokenError)
        self.corrupt += isinstance(failure, CorruptError)


class Statistics:
    """What happened with clients. `clock` tells seconds of any clock that only moves forward."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.recent = Recent()
        self.answers: Counter[tuple[Kind, Outcome]] = Counter()
        self.heads: Counter[Kind] = Counter()
        self.transmitted_bytes = 0
        self.nginx_transmitted_bytes = 0
        self.requests_in_progress = 0
        self.broken_off_answers = 0
        self.durations = {target: Histogram(_REQUEST_SECONDS) for target in TARGETS}
        self.loop_delay_seconds = Histogram(_DELAY_SECONDS)
        self.disk_free_bytes: int | None = None
        """As it was found last; None while that is not known."""
        self._clock = clock

    @contextmanager
    def request(self, path: str) -> Iterator[None]:
        """Count the request for the raw `path` that is answered inside."""
        self.requests_in_progress += 1
        begun = self._clock()
        try:
            yield
        finally:
            self.requests_in_progress -= 1
            self.durations[target_of(path)].observe(self._clock() - begun)

    def count_answer(self, resource: Resource, outcome: Outcome) -> None:
        """Count an answer to GET of a resource."""
        self.answers[resource.kind, outcome] += 1
        if outcome not in {Outcome.ABSENT, Outcome.FAILED}:
            self.recent.serve(resource.pack())

    def count_mirrored(self, outcome: Outcome) -> None:
        """Count an answer to GET of an object of a bucket."""
        self.answers[Kind.MIRROR, outcome] += 1

    def count_mirrored_head(self) -> None:
        """Count a HEAD of an object of a bucket."""
        self.heads[Kind.MIRROR] += 1

    def count_head(self, resource: Resource) -> None:
        """Count a HEAD of a resource, whatever came of it."""
        self.heads[resource.kind] += 1

    def count_transmitted(self, size_bytes: int) -> None:
        """Count bytes of resources that were sent to clients."""
        self.transmitted_bytes += size_bytes

    def count_nginx_hit(self, resource: Resource, size_bytes: int) -> None:
        """Count a hit that nginx answered with `size_bytes` of body; the store learns of it by `Index.touch`."""
        self.count_answer(resource, Outcome.HIT)
        self.nginx_transmitted_bytes += size_bytes

    def total(self, *outcomes: Outcome) -> int:
        """Return how many answers had one of `outcomes`, for resources of all kinds."""
        return sum(count for (_, outcome), count in self.answers.items() if outcome in outcomes)


def target_of(path: str) -> str:
    """Return which of `TARGETS` the raw `path` of a request counts for."""
    match = _TARGET.match(path)
    return OTHER if match is None else match[1] or match[2]

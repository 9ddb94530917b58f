"""How much may wait for storage servers: in all, for each peer, and for how long.

A flood of names that nobody has must not keep out who wants something that is there.
"""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import trio

from pkgserver_trio.errors import PeerOverBoundError, QueueFullError, ShuttingDownError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

#: What may wait for a storage server to begin to deliver.
MAX_WAITING = 1024
#: The same for one peer. A client asks for eight things at a time; an institute behind one address has many clients.
MAX_WAITING_EACH = 128
#: How long to wait for one's turns, in all. The client would give up after 20 s without a byte (docs/protocol.md).
TURN_SECONDS = 5


class Admission:
    """Counts who waits. The server's own needs have no peer (an empty one), and are never refused for their number."""

    def __init__(self, *, max_waiting: int = MAX_WAITING, max_waiting_each: int = MAX_WAITING_EACH) -> None:
        self._max_waiting = max_waiting
        self._max_waiting_each = max_waiting_each
        self._waiting: Counter[str] = Counter()
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._waiting.total()

    def enter(self, peer: str) -> None:
        """Count one more that waits; `leave` takes it back.

        Raises QueueFullError, PeerOverBoundError, ShuttingDownError.
        """
        self.raise_if_closed()
        if peer and self._waiting[peer] >= self._max_waiting_each:
            raise PeerOverBoundError(f"{peer} waits for {self._max_waiting_each} resources already")
        if peer and self._waiting.total() >= self._max_waiting:
            raise QueueFullError(f"{self._max_waiting} resources are waited for already")
        self._waiting[peer] += 1

    def raise_if_closed(self) -> None:
        """Raise ShuttingDownError once nobody is let in any more."""
        if self._is_closed:
            raise ShuttingDownError("the server is stopping: it begins no more downloads")

    def leave(self, peer: str) -> None:
        """Count one less."""
        self._waiting[peer] -= 1
        if not self._waiting[peer]:
            del self._waiting[peer]

    def close(self) -> None:
        """Let nobody in any more."""
        self._is_closed = True


class Turns:
    """A number of turns at something costly, of which one peer has a part at most: the others always come to theirs.

    This server's own needs (an empty peer) are few and urgent, and take no turn.
    """

    def __init__(self, total: int, each: int) -> None:
        self.total = trio.CapacityLimiter(total)
        self._each = each
        self._shares: dict[str, trio.CapacityLimiter] = {}

    @asynccontextmanager
    async def take(self, peer: str, deadline: float) -> AsyncIterator[None]:
        """Hold a turn while inside. Raises PeerOverBoundError, QueueFullError when there is none by `deadline`."""
        if not peer:
            yield
            return
        over = PeerOverBoundError(f"{peer} has {self._each} downloads running already")
        full = QueueFullError("too many downloads are running")
        # The own share first: what waits for it keeps nobody else from the rest.
        with self._share_of(peer) as share:
            async with _turn(share, deadline, over), _turn(self.total, deadline, full):
                yield

    @contextmanager
    def _share_of(self, peer: str) -> Iterator[trio.CapacityLimiter]:
        share = self._shares.setdefault(peer, trio.CapacityLimiter(self._each))
        try:
            yield share
        finally:
            state = share.statistics()
            if not state.borrowed_tokens and not state.tasks_waiting:
                self._shares.pop(peer, None)


@asynccontextmanager
async def _turn(limiter: trio.CapacityLimiter, deadline: float, refusal: Exception) -> AsyncIterator[None]:
    """Hold one of the limiter's tokens while inside. Raises `refusal` when none is free by `deadline`."""
    borrower = object()
    with trio.move_on_at(deadline) as waiting:
        await limiter.acquire_on_behalf_of(borrower)
    if waiting.cancelled_caught:
        raise refusal
    try:
        yield
    finally:
        limiter.release_on_behalf_of(borrower)

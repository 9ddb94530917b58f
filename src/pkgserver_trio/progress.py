"""How far a download is: one writer moves it on, any number of readers follow, nobody polls.

1. A reader of bytes `offset` to `stop` may have all that is written, but the last of its own bytes only once the whole
   is verified: an answer never completes with wrong bytes.
2. As long as no reader took a byte the download may begin anew, from another server, with another size. A reader that
   still belongs to the earlier attempt is told so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trio_util import AsyncValue

from pkgserver_trio.errors import BrokenOffError

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class State:
    """One moment of a download."""

    attempt: int = 0
    """Counts the servers that began to deliver; 0 before the first."""
    begun: bool = False
    """A server's response head is there."""
    size_bytes: int | None = None
    """What the head said the size will be; None when it did not."""
    written_bytes: int = 0
    arrived: bool = False
    """The upstream has sent all it had."""
    verified: bool = False
    error: BaseException | None = None


class Progress:
    """The observable state of one download."""

    def __init__(self) -> None:
        self._state = AsyncValue(State())
        self.taken = False
        """Some reader has taken a byte: rule 2 no longer allows to begin anew."""

    @property
    def state(self) -> State:
        """The state now."""
        value: State = self._state.value
        return value

    def begin(self, size_bytes: int | None) -> None:
        """Note that a server begins to deliver `size_bytes`."""
        attempt = self.state.attempt + 1
        self._state.value = State(attempt=attempt, begun=True, size_bytes=size_bytes)

    def withdraw(self) -> None:
        """Take the attempt back, since the server failed before a reader took a byte: wait for another one's head."""
        self._state.value = State(attempt=self.state.attempt)

    def advance(self, count: int) -> None:
        """Note that `count` more bytes are on disk."""
        self._state.value = replace(self.state, written_bytes=self.state.written_bytes + count)

    def arrive(self) -> None:
        """Note that the upstream has sent everything."""
        self._state.value = replace(self.state, arrived=True)

    def verify(self) -> None:
        """Note that what is written is whole and right: its last byte may go out."""
        self._state.value = replace(self.state, verified=True, size_bytes=self.state.written_bytes)

    def fail(self, error: BaseException) -> None:
        """End it: there will be no more."""
        self._state.value = replace(self.state, error=error)

    def is_running(self, attempt: int) -> bool:
        """Tell whether the bytes of `attempt` are still those that count."""
        return self.state.begun and self.state.attempt == attempt

    async def wait_for(self, is_so: Callable[[State], bool]) -> State:
        """Return the first state of which `is_so` holds."""
        state: State = await self._state.wait_value(is_so)
        return state

    async def wait_begun(self) -> State:
        """Return once a server delivers, or the download has failed (`error` is set)."""
        return await self.wait_for(lambda state: state.begun or state.error is not None)

    async def wait_readable(self, attempt: int, offset: int, stop: int | None) -> int:
        """Return up to where a reader of `attempt` may read now, more than `offset`; `offset` itself at the end.

        `stop` is where its answer ends, None for the yet unknown end. Raises BrokenOffError when the download failed or
        began anew; when it failed before any reader took a byte, its own error.
        """

        def readable(state: State) -> int:
            if state.verified:
                return state.written_bytes if stop is None else min(stop, state.written_bytes)
            return min(state.written_bytes, state.written_bytes if stop is None else stop) - 1

        def is_settled(state: State) -> bool:
            return state.verified or state.error is not None or state.attempt != attempt

        state = await self.wait_for(lambda state: is_settled(state) or readable(state) > offset)
        if state.verified:
            return max(readable(state), offset)
        if state.error is not None and not self.taken:
            raise state.error.with_traceback(None)  # raised once per reader: each would add its own frames
        if not self.is_running(attempt):
            raise BrokenOffError("the download began anew")
        if state.error is not None and readable(state) <= offset:
            raise BrokenOffError("the download failed") from state.error
        return readable(state)

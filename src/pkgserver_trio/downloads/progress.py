"""How far a download is: one writer moves it on, any number of readers follow, nobody polls.

1. A reader of bytes `offset` to `stop` may have all that is written, but the last of its own bytes only once the whole
   is verified: an answer never completes with wrong bytes.
2. What is written can be cut: another server took over, and its copy differs from there on. A reader that had not come
   so far, and was not told another size, does not notice. Any other is told so.
3. Nobody runs far ahead of the hasher: or a reader would get a large file at once, and then nothing for so long, while
   the rest is hashed, that it gives up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trio_util import AsyncValue

from pkgserver_trio.errors import BrokenOffError

if TYPE_CHECKING:
    from collections.abc import Callable

#: How far a reader may be ahead of the hasher. The slowest to hash, many tiny files, take 15 MB/s (measured): 5 s.
AHEAD_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class View:
    """What a reader was told when it began: the size, None when it was not known, and after how many cuts."""

    cuts: int
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class State:
    """One moment of a download."""

    begun: bool = False
    """A server's response head is there, or was."""
    size_bytes: int | None = None
    """What the head said the size will be; None when it did not."""
    written_bytes: int = 0
    """What readers may read, of whichever server."""
    confirmed_bytes: int = 0
    """How much of what is written is as the server that delivers now has it."""
    hashed_bytes: int = 0
    cuts: tuple[int, ...] = ()
    """For each cut, in their order, what was kept."""
    arrived: bool = False
    """The server has sent all it had, and all that is written is confirmed."""
    verified: bool = False
    error: BaseException | None = None

    @property
    def view(self) -> View:
        """What a reader that begins now is told."""
        return View(len(self.cuts), self.size_bytes)

    def kept_since(self, cuts: int) -> int | None:
        """Return how many bytes are still what they were `cuts` cuts after the start; None: all of them."""
        return min(self.cuts[cuts:], default=None)

    def suits(self, view: View, offset: int) -> bool:
        """Tell whether a reader that has all below `offset` can go on with this."""
        kept = self.kept_since(view.cuts)
        return view.size_bytes in {None, self.size_bytes} and (kept is None or offset <= kept)

    def readable_to(self, stop: int | None) -> int:
        """Return up to where an answer that ends at `stop` (None: at the yet unknown end) may be read (rules 1, 3)."""
        end = self.written_bytes if stop is None else min(stop, self.written_bytes)
        return end if self.verified else min(end - 1, self.hashed_bytes + AHEAD_BYTES)


class Progress:
    """The observable state of one download."""

    def __init__(self) -> None:
        self._state = AsyncValue(State())
        self.taken = False
        """Some reader has taken a byte."""

    @property
    def state(self) -> State:
        """The state now."""
        value: State = self._state.value
        return value

    def hand_over(self) -> None:
        """Note that it is another server's turn, which has confirmed nothing yet."""
        self._state.value = replace(self.state, confirmed_bytes=0, arrived=False)

    def begin(self, size_bytes: int | None) -> None:
        """Note that a server begins to deliver `size_bytes` (None: it does not say), from the start."""
        self.hand_over()
        size = self.state.size_bytes if size_bytes is None else size_bytes
        self._state.value = replace(self.state, begun=True, size_bytes=size)

    def reach(self, position: int) -> None:
        """Note that the server's first `position` bytes are on disk."""
        written = max(self.state.written_bytes, position)
        self._state.value = replace(self.state, confirmed_bytes=position, written_bytes=written)

    def cut(self, kept_bytes: int) -> None:
        """Note that nothing beyond `kept_bytes` is as the server has it: what was written there is no more."""
        self._state.value = replace(
            self.state,
            cuts=(*self.state.cuts, kept_bytes),
            written_bytes=kept_bytes,
            confirmed_bytes=kept_bytes,
            hashed_bytes=min(self.state.hashed_bytes, kept_bytes),
        )

    def hash_to(self, position: int) -> None:
        """Note how far the hasher is."""
        self._state.value = replace(self.state, hashed_bytes=position)

    def arrive(self) -> None:
        """Note that the server has sent everything, which is all that is written: so the size is known."""
        self._state.value = replace(self.state, arrived=True, size_bytes=self.state.written_bytes)

    def verify(self) -> None:
        """Note that what is written is whole and right: its last byte may go out."""
        self._state.value = replace(self.state, verified=True)

    def fail(self, error: BaseException) -> None:
        """End it: there will be no more."""
        self._state.value = replace(self.state, error=error)

    async def wait_for(self, is_so: Callable[[State], bool]) -> State:
        """Return the first state of which `is_so` holds."""
        state: State = await self._state.wait_value(is_so)
        return state

    async def wait_begun(self) -> State:
        """Return once a server delivers, or the download has failed (`error` is set)."""
        return await self.wait_for(lambda state: state.begun or state.error is not None)

    async def wait_readable(self, view: View, offset: int, stop: int | None) -> int:
        """Return up to where a reader of `view` may read now, more than `offset`; `offset` itself at the end.

        `stop` is where its answer ends, None for the yet unknown end. Raises BrokenOffError when it cannot go on; when
        the download failed before any reader took a byte, its own error.
        """

        def is_news(state: State) -> bool:
            settled = state.verified or state.error is not None or not state.suits(view, offset)
            return settled or state.readable_to(stop) > offset

        await self.wait_for(is_news)
        while not is_news(state := self.state):  # it may have been cut since it was news
            await self.wait_for(is_news)
        if not state.suits(view, offset):
            raise BrokenOffError("another storage server has other bytes")
        failure = None if state.verified else state.error
        if failure is not None and not self.taken:
            raise failure.with_traceback(None)  # raised once per reader: each would add its own frames
        if failure is not None and state.readable_to(stop) <= offset:
            raise BrokenOffError("the download failed") from failure
        return max(state.readable_to(stop), offset)

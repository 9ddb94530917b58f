"""The body of an answer: some bytes of a file that is there, or still arriving, at the client's own pace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

from quart.wrappers.response import ResponseBody

from pkgserver_trio.errors import BrokenOffError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class Source(Protocol):
    """What a body reads from: a stored file or the reader of a flight."""

    async def read(self, offset: int, stop: int) -> bytes:
        """Return some bytes from `offset` on, below `stop`; empty at the end."""


class Span(ResponseBody):
    """The bytes `start` to `stop` (exclusive; None: to the end, wherever that will be). One piece in memory at most.

    `sent` is told how many bytes go out.
    """

    def __init__(self, source: Source, start: int, stop: int | None, sent: Callable[[int], None]) -> None:
        self._source = source
        self._offset = start
        self._stop = stop
        self._sent = sent
        self._first: bytes | None = None

    async def prefetch(self) -> None:
        """Wait for the first piece, so that the head of an answer is not sent before its body can be.

        Raises BrokenOffError, when it is not too late to begin again.
        """
        self._first = await self._read()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing to do: the connection closes the source."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        piece, self._first = self._first, None
        if piece is None:
            piece = await self._read()
        if not piece:
            raise StopAsyncIteration
        self._offset += len(piece)
        self._sent(len(piece))
        return piece

    async def _read(self) -> bytes:
        if self._offset == self._stop:
            return b""
        try:
            piece = await self._source.read(self._offset, self._stop)  # type: ignore[arg-type] # None: flights alone
        except OSError as error:
            raise BrokenOffError(f"the disk failed: {error.strerror}") from error
        if not piece and self._stop is not None:
            raise BrokenOffError("the file has become shorter than it was")
        return piece

    async def convert_to_sequence(self) -> bytes:
        """Return all that is left; Quart asks for it only to compute what we set ourselves."""
        return b"".join([piece async for piece in self])

"""The body of a storage server's response, as it arrives: bounded in silence, and freed of a coding not asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import trio

from pkgserver_trio.tarballs.inflate import Inflater
from pkgserver_trio.upstream.content_coding import is_gzip_twice

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

#: What has to come within the time that a body may be silent: one that trickles slower is as good as silent.
LEAST_BYTES = 256
#: The same while somebody else can be asked: nobody is worth a turn for hours.
BRISK_BYTES = 4096
#: How much is looked at to find out a coding: a gzip header without an end would fill the memory.
MOST_PEEKED_BYTES = 64 * 1024


class Pieces:
    """The pieces of a body. Only the waits for them count as silence, not what is done with them in between."""

    def __init__(self, raw: AsyncIterator[bytes], silence_seconds: float, least_bytes: int) -> None:
        self._raw = raw
        self._silence_seconds = self._left_seconds = silence_seconds
        self._least_bytes = least_bytes
        self._count = 0
        self._peeked = b""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece. Raises trio.TooSlowError when less than `least_bytes` came for too long."""
        piece, self._peeked = self._peeked, b""
        piece = piece or await self._receive()
        if not piece:
            raise StopAsyncIteration
        return piece

    async def is_gzip_twice(self) -> bool:
        """Tell whether the body is, after looking at its start."""
        while (told := is_gzip_twice(self._peeked)) is None:
            piece = await self._receive() if len(self._peeked) < MOST_PEEKED_BYTES else b""
            if not piece:
                return False
            self._peeked += piece
        return told

    async def _receive(self) -> bytes:
        began = trio.current_time()
        with trio.fail_after(self._left_seconds):
            piece = await anext(self._raw, b"")
        # What comes may be looked at late, after its time.
        self._left_seconds = max(self._left_seconds - (trio.current_time() - began), 0)
        self._count += len(piece)
        if self._count >= self._least_bytes:
            self._left_seconds, self._count = self._silence_seconds, 0
        return piece


class Decoded:
    """What pieces of gzip decompress to. Raises TarballError when they are damaged."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._inflater = Inflater()
        self._ready: Iterator[bytes] = iter(())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece, of bounded size."""
        while not (output := next(self._ready, b"")):
            piece = await anext(self._pieces, b"")
            if not piece:
                self._inflater.finish()
                raise StopAsyncIteration
            self._ready = self._inflater.feed(piece)
        return output

"""Gzip, decompressed as it arrives, in pieces of bounded size (RFC 1952).

1. A stream is one member or more, one right after the other (RFC 1952, 2.2), then nothing but zero bytes.
2. Output is pulled, never pushed: however well a bomb is packed, one piece of it is all that is ever in memory.
3. A member is whole when its checksum and length were right (``eof``), and a stream when its last member is.
"""

from __future__ import annotations

import zlib
from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

PIECE_BYTES: Final = 1 << 20
"""The most that one piece of output holds."""

# What a decompressor has not taken yet, it hands back as a copy, so we never show it much at once.
_INPUT_BYTES: Final = 1 << 16
_GZIP_WBITS: Final = 31


class TarballError(ValueError):
    """These bytes are no whole and sound tarball, or one that we refuse; the text says why."""


class Decompressor(Protocol):
    """One gzip member being decompressed, as the standard library's ``zlib.decompressobj`` does it."""

    @property
    def eof(self) -> bool:
        """Whether the member has ended, checksum and length included."""

    @property
    def unconsumed_tail(self) -> bytes:
        """The input that the last call left because its output was full."""

    @property
    def unused_data(self) -> bytes:
        """The input behind the end of the member."""

    def decompress(self, piece: bytes | memoryview, max_length: int, /) -> bytes:
        """Return at most ``max_length`` bytes of output."""


class InflateLibrary(Protocol):
    """A module with the interface of the standard library's ``zlib``."""

    @property
    def error(self) -> type[Exception]:
        """What its decompressors raise."""

    def decompressobj(self, wbits: int) -> Decompressor:
        """Return a decompressor; ``wbits`` as in zlib's ``inflateInit2``."""


def load_library(preferred: str = "isal.isal_zlib") -> InflateLibrary:
    """Return the module of that name, or the standard library's zlib where it is not installed."""
    try:
        return cast("InflateLibrary", import_module(preferred))
    except ImportError:
        return zlib


_LIBRARY: Final = load_library()
INFLATE_LIBRARY: Final = "zlib" if _LIBRARY is zlib else "isal"
"""What decompresses here: ``isal``, about twice as fast, or ``zlib``."""


class Inflater:
    """Decompresses one gzip stream; ``library`` is the module that does it."""

    def __init__(self, library: InflateLibrary = _LIBRARY) -> None:
        self._library = library
        self._member = library.decompressobj(_GZIP_WBITS)
        self._in_padding = False

    def feed(self, piece: bytes | memoryview) -> Iterator[bytes]:
        """Yield what ``piece`` decompresses to, in pieces of 1 to ``PIECE_BYTES`` bytes; take them all.

        Raises TarballError when the stream is damaged, or followed by anything but zero bytes.
        """
        view = memoryview(piece)
        for start in range(0, len(view), _INPUT_BYTES):
            yield from self._inflate(view[start : start + _INPUT_BYTES])

    def finish(self) -> None:
        """Raise TarballError unless what was fed ended with a whole member."""
        if not self._member.eof:
            raise TarballError("the gzip stream is truncated")

    def _inflate(self, rest: bytes | memoryview) -> Iterator[bytes]:
        while rest:
            if self._member.eof and (self._in_padding or rest[0] == 0):
                self._in_padding = True
                require_zeros(rest, after="the gzip stream")
                return
            if self._member.eof:
                self._member = self._library.decompressobj(_GZIP_WBITS)
            rest = yield from self._inflate_member(rest)

    def _inflate_member(self, rest: bytes | memoryview) -> Generator[bytes, None, bytes]:
        """Yield what ``rest`` holds of the present member, and return what comes after it."""
        while True:
            try:
                output = self._member.decompress(rest, PIECE_BYTES)
            except self._library.error as error:
                raise TarballError(f"the gzip stream is damaged: {error}") from error
            if output:
                yield output
            if self._member.eof:
                return self._member.unused_data
            rest = self._member.unconsumed_tail
            # Full output may hide more of it, even when no input is left.
            if not rest and len(output) < PIECE_BYTES:
                return b""


def require_zeros(piece: bytes | memoryview, *, after: str) -> None:
    """Raise TarballError, naming what it comes ``after``, if a byte of ``piece`` is not zero."""
    if bytes(piece).strip(b"\0"):
        raise TarballError(f"there is something after {after}")

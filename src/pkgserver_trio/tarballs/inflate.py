"""Gzip, decompressed as it arrives, in pieces of bounded size (RFC 1952).

1. A stream is one member or more, one right after the other (RFC 1952, 2.2), then nothing but zero bytes.
2. Output is pulled, never pushed: however well a bomb is packed, one piece of it is all that is ever in memory.
3. A member is whole when its checksum and length were right (``eof``), and a stream when its last member is.
4. A member's header is handed over in one piece: isal's library forgets what it has read of one that comes in several
   (https://github.com/intel/isa-l/issues/224), and then misreads the rest.
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
_MAGIC: Final = b"\x1f\x8b"
_FIXED_BYTES: Final = 10
_FHCRC, _FEXTRA, _FNAME, _FCOMMENT = 2, 4, 8, 16
_RESERVED: Final = 0xE0
_UNSEEN: Final = 1 << 40  # where a text ends whose end has not arrived
_MAX_HEADER_BYTES: Final = 1 << 17  # room for the longest extra field, and for names as long again


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
        self._header: bytes | None = b""  # as much of it as has arrived, None behind it
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
                self._header = b""
            if self._header is not None:
                self._header += rest
                if not _is_whole(self._header):
                    return
                rest, self._header = self._header, None
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


def _is_whole(header: bytes) -> bool:
    """Say whether the header of a member (RFC 1952, 2.3) ends in these bytes; what is none may be judged at once."""
    if not header.startswith(_MAGIC[: len(header)]):
        return True
    if len(header) < _FIXED_BYTES:
        return False
    flags, stop = header[3], _FIXED_BYTES
    if flags & _RESERVED:  # isal would read on, though nobody knows what is there
        raise TarballError("the gzip stream is damaged: its header has reserved flags")
    if flags & _FEXTRA:
        stop += 2 + int.from_bytes(header[stop : stop + 2], "little")
    for text in (_FNAME, _FCOMMENT):
        if flags & text:
            stop = header.find(b"\0", stop) + 1 or _UNSEEN
    if flags & _FHCRC:
        stop += 2
    if len(header) < stop and len(header) > _MAX_HEADER_BYTES:
        raise TarballError(f"the gzip stream is damaged: a header of more than {_MAX_HEADER_BYTES} bytes")
    return len(header) >= stop


def require_zeros(piece: bytes | memoryview, *, after: str) -> None:
    """Raise TarballError, naming what it comes ``after``, if a byte of ``piece`` is not zero."""
    if bytes(piece).strip(b"\0"):
        raise TarballError(f"there is something after {after}")

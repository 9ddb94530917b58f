"""Sparse files in a tar archive, in GNU's four dialects: what is stored are the parts between the holes, and a map.

    dialect  the map is in
    old GNU  the header block (type ``S``) and the blocks that follow it
    0.0, 0.1 the pax header: pairs of records, or one list
    1.0      the first blocks of the content, as lines of text

Rule 1: A map is a list of offsets and lengths; it is in order, ends where the file ends, and says of all stored bytes
        where they go. What is not is refused.
Rule 2: Every part but the last is stored in whole blocks. Writers know no others, and readers disagree on those: GNU
        tar looks for the next part at the next block, others look right behind.
Rule 3: Holes cost their sender nothing and their reader time, so the caller bounds ``size_bytes`` before it writes.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from pkgserver_trio.tarballs.header import BLOCK, MAX_EXTENSION_BYTES, parse_number, shown
from pkgserver_trio.tarballs.inflate import TarballError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_ZEROS: Final = memoryview(bytes(1 << 20))
_NUMBER: Final = re.compile(rb"[0-9]{1,20}")
_LINES: Final = re.compile(rb"(?:[0-9]{1,20}\n)+\0*")
# Where the old GNU header and the blocks that follow it have the pairs, the sign that another block follows, the size.
_FIRST_PAIRS: Final = slice(386, 482)
_REAL_SIZE: Final = slice(483, 495)
_NEXT_PAIRS: Final = slice(0, 504)


class SparseMap(NamedTuple):
    """Where the stored parts of a file are and its size, in bytes.

    ``parts`` are offsets and lengths, in order; None says that the map is in the content, dialect 1.0. ``stored_bytes``
    is the size of the content. Raises TarballError when ``checked``.
    """

    size_bytes: int
    stored_bytes: int
    parts: Sequence[tuple[int, int]] | None = None

    def with_parts(self, numbers: Sequence[int], *, map_bytes: int = 0) -> SparseMap:
        """Return the map with these offsets and lengths in turn; ``map_bytes`` of the content are the map itself.

        Raises TarballError when they are not what a map can be.
        """
        edges = [0]
        parts = list(zip(numbers[::2], numbers[1::2], strict=False))
        for offset, length in parts:
            edges += (offset, offset + length)
        if len(numbers) % 2 or any(edge > after for edge, after in pairwise([*edges, self.size_bytes])):
            raise TarballError("the map of a sparse file is out of order, or leads out of the file")
        if sum(length for _, length in parts) != self.stored_bytes - map_bytes:
            raise TarballError("the map of a sparse file does not fit what is stored of it")
        if edges[-1] != self.size_bytes:
            raise TarballError("the map of a sparse file ends before the file")
        if any(length % BLOCK for length in [length for _, length in parts if length][:-1]):
            raise TarballError("a part of a sparse file, and not its last, is stored in no whole blocks")
        return self._replace(parts=parts)


class Filler:
    """Writes a file with its holes: call it with what is stored, in slices of any size, then ``end``."""

    def __init__(self, sparse: SparseMap, write: Callable[[memoryview], object]) -> None:
        self._sparse = sparse
        self._write = write
        self._reader = _MapReader(sparse)
        self._parts = iter(sparse.parts or ())
        self._position = self._part_stop = 0

    def __call__(self, stored: memoryview) -> None:
        """Write the next stored bytes, and the holes before them; raise TarballError when they begin with no map."""
        if self._sparse.parts is None:
            stored = self._take_map(stored)
        while stored:
            while self._position == self._part_stop:
                offset, length = next(self._parts)
                self._fill(offset)
                self._part_stop = offset + length
            content = stored[: self._part_stop - self._position]
            self._write(content)
            self._position += len(content)
            stored = stored[len(content) :]

    def end(self) -> None:
        """Write the last hole; raise TarballError when not even the map was complete."""
        if self._sparse.parts is None:
            raise TarballError("the map of a sparse file is truncated")
        self._fill(self._sparse.size_bytes)

    def _take_map(self, stored: memoryview) -> memoryview:
        stored = self._reader.feed(stored)
        if self._reader.found is not None:
            self._sparse = self._reader.found
            self._parts = iter(self._sparse.parts or ())
        return stored

    def _fill(self, stop: int) -> None:
        while self._position < stop:
            hole = _ZEROS[: stop - self._position]
            self._write(hole)
            self._position += len(hole)


class _MapReader:
    """Takes the first blocks of a file in dialect 1.0 until they are a map, then found."""

    def __init__(self, sparse: SparseMap) -> None:
        self._sparse = sparse
        self._text = bytearray()
        self._lines_seen = 0
        self.found: SparseMap | None = None

    def feed(self, content: memoryview) -> memoryview:
        while content and self.found is None:
            missing_bytes = BLOCK - len(self._text) % BLOCK
            piece = bytes(content[:missing_bytes])
            self._text += piece
            self._lines_seen += piece.count(b"\n")
            content = content[missing_bytes:]
            if len(self._text) % BLOCK == 0:
                self._end_block()
        return content

    def _end_block(self) -> None:
        first = bytes(self._text[:BLOCK]).partition(b"\n")[0]
        lines_wanted = 1 + 2 * _parse_decimal(first)
        if len(self._text) > MAX_EXTENSION_BYTES:
            raise TarballError("the map of a sparse file is too large")
        if self._lines_seen >= lines_wanted:
            if self._lines_seen > lines_wanted or not _LINES.fullmatch(self._text):
                raise TarballError("the map of a sparse file is malformed")
            numbers = [int(line) for line in self._text.rstrip(b"\0").split()]
            self.found = self._sparse.with_parts(numbers[1:], map_bytes=len(self._text))


def old_map_goes_on(blocks: bytes | bytearray) -> bool:
    """Say whether another block of an old GNU map follows these: the header block and maybe more."""
    return blocks[482 if len(blocks) == BLOCK else -8] != 0


def parse_old_map(blocks: bytes, stored_bytes: int) -> SparseMap:
    """Read an old GNU map from the header block and those that follow it; raise TarballError when it is none."""
    fields = blocks[_FIRST_PAIRS]
    for start in range(BLOCK, len(blocks), BLOCK):
        fields += blocks[start : start + BLOCK][_NEXT_PAIRS]
    numbers = [parse_number(fields[start : start + 12]) for start in range(0, len(fields.rstrip(b"\0")), 12)]
    return SparseMap(parse_number(blocks[_REAL_SIZE]), stored_bytes).with_parts(numbers)


def parse_pax_map(words: Mapping[bytes, bytes], stored_bytes: int) -> SparseMap:
    """Read the map from the pax records of a file, or its size only (1.0); raise TarballError when they are none."""
    version = words.get(b"GNU.sparse.major", b"0"), words.get(b"GNU.sparse.minor", b"0")
    if version == (b"1", b"0"):
        return SparseMap(_parse_decimal(words.get(b"GNU.sparse.realsize", b"")), stored_bytes)
    if version[0] != b"0":
        raise TarballError(f"a sparse file in an unknown dialect: {shown(b'.'.join(version))}")
    numbers = [_parse_decimal(word) for word in words.get(b"GNU.sparse.map", b"").split(b",")]
    return SparseMap(_parse_decimal(words.get(b"GNU.sparse.size", b"")), stored_bytes).with_parts(numbers)


def _parse_decimal(word: bytes) -> int:
    if not _NUMBER.fullmatch(word):
        raise TarballError(f"a number of a sparse file is none: {shown(word)}")
    return int(word)

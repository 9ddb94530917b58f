"""A tar archive, parsed as it arrives (POSIX ustar and pax, GNU, V7), without I/O and without keeping content.

An archive is a row of 512-byte blocks: a header, its content, the next header, and at the end zeros. So the parser is
always in one of four states. Each takes what it can of a piece and returns the rest: the cut into pieces is no matter.

    header  --size > 0-->  content  --odd size-->  padding  -->  header
    header  --size = 0-->  header
    header  --all zero-->  ending   (and no way out)

Rule 1: Content is never copied. It goes to its reader in slices as long as the pieces allow.
Rule 2: An extension (pax ``x`` and ``g``, GNU ``L`` and ``K``) is a member whose content we keep: it renames the next
        member, or (``g``) every later one. The later word wins, and a member's own wins over a global one.
Rule 3: What readers of tar do not agree on is refused, not guessed: a symbolic link with content, a file whose name
        ends in a slash, sparse files in all their dialects, devices.
Rule 4: Only the end says that nothing is missing: one block of zeros at least, then nothing but zeros.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol
from zlib import adler32

from pkgserver_trio.inflate import TarballError, require_zeros

if TYPE_CHECKING:
    from collections.abc import Callable

_BLOCK: Final = 512
_ZERO_BLOCK: Final = bytes(_BLOCK)
# name, mode, (uid, gid), size, (mtime), checksum, type, link target, magic, (version, owner, group, device), prefix
_FIELDS: Final = Struct("100s 8s 16x 12s 12x 8s c 100s 6s 82x 155s 12x")
_CHECKSUM: Final = slice(148, 156)
_BASE_256: Final = 0x80
_OWNER_MAY_EXECUTE: Final = 0o100
_MAX_EXTENSION_BYTES: Final = 1 << 20
_PAX_RECORD: Final = re.compile(rb"(\d{1,7}) ([^=]+)=")
_PAX_KEYS: Final = (b"path", b"linkpath", b"size")
_MAX_SIZE_DIGITS: Final = 20
_REFUSED: Final = {b"3": "a device", b"4": "a device", b"6": "a FIFO", b"S": "a sparse file"}


@dataclass(frozen=True, slots=True)
class TarLimits:
    """What one tarball may cost: bytes after decompression; files, links and folders (implied ones too)."""

    max_unpacked_bytes: int
    max_members: int


class TarSink(Protocol):
    """What takes the members of an archive, in its order and by the names it has there. All may raise TarballError."""

    def begin_file(self, path: bytes, size_bytes: int, *, executable: bool) -> Callable[[memoryview], object]:
        """Begin a file; return what takes its content, in slices that are valid during the call only."""

    def end_file(self) -> None:
        """End the file that was begun last: its content is complete."""

    def directory(self, path: bytes) -> None:
        """Take a directory, maybe once more."""

    def symlink(self, path: bytes, target: bytes) -> None:
        """Take a symbolic link; its target is any text."""

    def hardlink(self, path: bytes, target: bytes) -> None:
        """Take another name of the earlier member ``target``."""


class TarStream:
    """The parser: feed it an archive, it calls the sink. After a TarballError it is of no more use."""

    def __init__(self, limits: TarLimits, sink: TarSink) -> None:
        self._sink = sink
        self._max_unpacked_bytes = limits.max_unpacked_bytes
        self._unpacked_bytes = 0
        self._state: Callable[[memoryview], memoryview] = self._take_header
        self._header = b""  # as much of it as has arrived
        self._content_bytes = self._padding_bytes = 0  # still to come
        self._write: Callable[[memoryview], object]
        self._end_content: Callable[[], None]
        self._globals: dict[bytes, bytes] = {}
        self._overrides: dict[bytes, bytes] = {}

    def feed(self, piece: bytes | memoryview) -> None:
        """Parse the next bytes; raise TarballError as soon as they cannot be right."""
        self._unpacked_bytes += len(piece)
        if self._unpacked_bytes > self._max_unpacked_bytes:
            raise TarballError(f"the tarball unpacks to more than {self._max_unpacked_bytes} bytes")
        rest = memoryview(piece)
        while rest:
            rest = self._state(rest)

    def finish(self) -> None:
        """Raise TarballError unless the end of the archive was seen."""
        if self._state != self._take_ending:
            raise TarballError("the archive is truncated")

    def _take_header(self, rest: memoryview) -> memoryview:
        missing_bytes = _BLOCK - len(self._header)
        self._header += rest[:missing_bytes]
        if len(self._header) == _BLOCK:
            block, self._header = self._header, b""
            self._begin(block)
        return rest[missing_bytes:]

    def _take_content(self, rest: memoryview) -> memoryview:
        content = rest[: self._content_bytes]
        self._write(content)
        self._content_bytes -= len(content)
        if not self._content_bytes:
            self._state = self._take_padding if self._padding_bytes else self._take_header
            self._end_content()
        return rest[len(content) :]

    def _take_padding(self, rest: memoryview) -> memoryview:
        skipped_bytes = min(len(rest), self._padding_bytes)
        self._padding_bytes -= skipped_bytes
        if not self._padding_bytes:
            self._state = self._take_header
        return rest[skipped_bytes:]

    def _take_ending(self, rest: memoryview) -> memoryview:
        require_zeros(rest, after="the end of the archive")
        return rest[:0]

    def _begin(self, block: bytes) -> None:
        if block != _ZERO_BLOCK:
            header = _parse_header(block)
            (self._begin_extension if header.kind in b"xgLK" else self._begin_member)(header)
        elif self._overrides:
            raise TarballError("the archive ends after an extension header: its member is missing")
        else:
            self._state = self._take_ending

    def _begin_extension(self, header: _Header) -> None:
        if header.size_bytes > _MAX_EXTENSION_BYTES:
            raise TarballError(f"an extension header of {header.size_bytes} bytes is too large")
        payload = bytearray()
        self._expect(header.size_bytes, payload.extend, partial(self._apply_extension, header.kind, payload))

    def _apply_extension(self, kind: bytes, payload: bytearray) -> None:
        if kind in b"xg":
            (self._overrides if kind == b"x" else self._globals).update(_parse_pax(bytes(payload)))
        else:
            self._overrides[b"path" if kind == b"L" else b"linkpath"] = bytes(payload).rstrip(b"\0")

    def _begin_member(self, header: _Header) -> None:
        if self._globals or self._overrides:
            header = header.renamed(self._globals | self._overrides)
            self._overrides = {}
        path, kind = header.path, header.kind
        in_folder_style = path.rpartition(b"/")[2] in (b"", b".")
        if kind == b"5" or (kind == b"\0" and in_folder_style):  # V7 has no other sign of a directory
            self._sink.directory(path)
        elif in_folder_style:
            raise TarballError(f"{path!r} is empty, or named like a directory but is none")
        elif kind in b"0\x007":  # 7: "contiguous", a regular file to everyone
            self._begin_file(path, header)
            return
        elif kind == b"1":
            self._sink.hardlink(path, header.target)
        elif kind == b"2":
            self._sink.symlink(path, header.target)
        else:
            raise TarballError(f"{path!r} is {_REFUSED.get(kind, f'of unknown type {kind!r}')}")
        if header.size_bytes:
            raise TarballError(f"{path!r} has content, but is no file")

    def _begin_file(self, path: bytes, header: _Header) -> None:
        if header.size_bytes > self._max_unpacked_bytes:
            raise TarballError(f"{path!r} alone is larger than {self._max_unpacked_bytes} bytes")
        write = self._sink.begin_file(path, header.size_bytes, executable=bool(header.mode & _OWNER_MAY_EXECUTE))
        self._expect(header.size_bytes, write, self._sink.end_file)

    def _expect(self, size_bytes: int, write: Callable[[memoryview], object], end: Callable[[], None]) -> None:
        self._content_bytes, self._padding_bytes = size_bytes, -size_bytes % _BLOCK
        self._write, self._end_content = write, end
        if size_bytes:
            self._state = self._take_content
        else:
            end()


class _Header(NamedTuple):
    path: bytes
    target: bytes
    kind: bytes
    mode: int
    size_bytes: int

    def renamed(self, words: dict[bytes, bytes]) -> _Header:
        """Return the header as the extension headers before it want it."""
        path, target = words.get(b"path", self.path), words.get(b"linkpath", self.target)
        return _Header(path, target, self.kind, self.mode, int(words.get(b"size", self.size_bytes)))


def _parse_header(block: bytes) -> _Header:
    name, mode, size, checksum, kind, target, magic, prefix = _FIELDS.unpack(block)
    _check_sum(block, _parse_number(checksum))
    path = name.partition(b"\0")[0]
    # GNU's magic is followed by a space, and it keeps other things where POSIX has the prefix.
    if magic == b"ustar\0" and prefix[0]:
        path = prefix.partition(b"\0")[0] + b"/" + path
    return _Header(path, target.partition(b"\0")[0], kind, _parse_number(mode), _parse_number(size))


def _parse_number(field: bytes) -> int:
    """Octal text, or where it does not fit GNU's base 256: a marked first byte, then big-endian."""
    if field[0] == _BASE_256:
        return int.from_bytes(field[1:], "big")
    digits = field.partition(b"\0")[0].strip(b" ")
    if digits.strip(b"01234567"):
        raise TarballError(f"a header field is no number: {field!r}")
    return int(digits or b"0", 8)


def _check_sum(block: bytes, stored: int) -> None:
    blanked = block[: _CHECKSUM.start] + b" " * 8 + block[_CHECKSUM.stop :]
    unsigned = _byte_sum(blanked[:256]) + _byte_sum(blanked[256:])
    # Some old writers added signed characters; that sum is slow, and rarely needed.
    if stored != unsigned and stored != sum(memoryview(blanked).cast("b")):
        raise TarballError("a header has a wrong checksum")


def _byte_sum(piece: bytes) -> int:
    """Add 256 bytes: ten times as fast as ``sum``, and exact, as Adler-32 counts modulo 65521 (RFC 1950)."""
    return (adler32(piece) & 0xFFFF) - 1


def _parse_pax(payload: bytes) -> dict[bytes, bytes]:
    """Return the records that matter here; each is a length, a space, ``key=value`` and a newline (POSIX, pax)."""
    records, start = {}, 0
    while start < len(payload):
        record = _PAX_RECORD.match(payload, start)
        stop = start + int(record[1]) if record else 0
        if not record or not record.end() < stop <= len(payload) or payload[stop - 1 : stop] != b"\n":
            raise TarballError("a pax header is malformed")
        if record[2].startswith(b"GNU.sparse."):
            raise TarballError("the archive holds a sparse file")
        key, word = record[2], payload[record.end() : stop - 1]
        if key == b"size" and not (word.isdigit() and len(word) <= _MAX_SIZE_DIGITS):
            raise TarballError(f"a pax size is no number: {word[:40]!r}")
        if key in _PAX_KEYS:
            records[key] = word
        start = stop
    return records

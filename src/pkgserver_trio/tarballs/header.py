"""The headers of a tar archive as values: one block, the records of a pax header (POSIX ustar and pax, GNU, V7).

1. A member is described by its own block and by the words of the extension headers before it, which win.
2. A name is bytes and is not judged here; where a text shows one, it is cut (``shown``).
"""

from __future__ import annotations

import re
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple
from zlib import adler32

from pkgserver_trio.tarballs.inflate import TarballError

if TYPE_CHECKING:
    from collections.abc import Mapping

BLOCK: Final = 512
MAX_EXTENSION_BYTES: Final = 1 << 20
"""The most that an extension header, or another header that is kept, may hold."""

# name, mode, (uid, gid), size, (mtime), checksum, type, link target, magic, (version, owner, group, device), prefix
_FIELDS: Final = Struct("100s 8s 16x 12s 12x 8s c 100s 6s 82x 155s 12x")
_CHECKSUM: Final = slice(148, 156)
_BASE_256: Final = 0x80
_OWNER_MAY_EXECUTE: Final = 0o100
_PAX_RECORD: Final = re.compile(rb"(\d{1,7}) ([^=]+)=")
_PAX_KEYS: Final = (b"path", b"linkpath", b"size")
_SPARSE: Final = b"GNU.sparse."
_SPARSE_PAIR: Final = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
_MAX_SIZE_DIGITS: Final = 20
_SHOWN_BYTES: Final = 80


class Header(NamedTuple):
    """What one header block, and the words before it, say of a member; sizes in bytes, as stored in the archive."""

    path: bytes
    target: bytes
    kind: bytes
    executable: bool
    size_bytes: int

    def renamed(self, words: Mapping[bytes, bytes]) -> Header:
        """Return the header as the extension headers before it want it."""
        return self._replace(
            path=words.get(b"GNU.sparse.name", words.get(b"path", self.path)),
            target=words.get(b"linkpath", self.target),
            size_bytes=int(words.get(b"size", self.size_bytes)),
        )


def parse_header(block: bytes) -> Header:
    """Read a block that is not all zeros; raise TarballError for a wrong checksum and for what is no number."""
    name, mode, size, checksum, kind, target, magic, prefix = _FIELDS.unpack(block)
    _check_sum(block, parse_number(checksum))
    path = name.partition(b"\0")[0]
    # GNU's magic is followed by a space, and it keeps other things where POSIX has the prefix.
    if magic == b"ustar\0" and prefix[0]:
        path = prefix.partition(b"\0")[0] + b"/" + path
    executable = bool(parse_number(mode) & _OWNER_MAY_EXECUTE)
    return Header(path, target.partition(b"\0")[0], kind, executable, parse_number(size))


def parse_number(field: bytes) -> int:
    """Octal text, or where it does not fit GNU's base 256: a marked first byte, then big-endian."""
    if field[0] == _BASE_256:
        return int.from_bytes(field[1:], "big")
    digits = field.partition(b"\0")[0].strip(b" ")
    if digits.strip(b"01234567"):
        raise TarballError(f"a header field is no number: {field!r}")
    return int(digits or b"0", 8)


def parse_pax(payload: bytes) -> dict[bytes, bytes]:
    """Return the records that matter here; each is a length, a space, ``key=value`` and a newline (POSIX, pax).

    GNU's first way to write a sparse file repeats two keys in turn; they are returned as its second way has them.
    """
    records: dict[bytes, bytes] = {}
    start = 0
    pairs = []
    while start < len(payload):
        record = _PAX_RECORD.match(payload, start)
        stop = start + int(record[1]) if record else 0
        if not record or not record.end() < stop <= len(payload) or payload[stop - 1 : stop] != b"\n":
            raise TarballError("a pax header is malformed")
        key, word = record[2], payload[record.end() : stop - 1]
        if key == b"size" and not (word.isdigit() and len(word) <= _MAX_SIZE_DIGITS):
            raise TarballError(f"a pax size is no number: {shown(word)}")
        if key in _SPARSE_PAIR:
            pairs.append(word)
        elif key in _PAX_KEYS or key.startswith(_SPARSE):
            records[key] = word
        start = stop
    return records | ({b"GNU.sparse.map": b",".join(pairs)} if pairs else {})


def shown(name: bytes) -> str:
    """Return a name as it may stand in a text: printable, and not longer than a line."""
    return f"{name[:_SHOWN_BYTES]!r}" + "..." * (len(name) > _SHOWN_BYTES)


def _check_sum(block: bytes, stored: int) -> None:
    blanked = block[: _CHECKSUM.start] + b" " * 8 + block[_CHECKSUM.stop :]
    unsigned = _byte_sum(blanked[:256]) + _byte_sum(blanked[256:])
    # Some old writers added signed characters; that sum is slow, and rarely needed.
    if stored != unsigned and stored != sum(memoryview(blanked).cast("b")):
        raise TarballError("a header has a wrong checksum")


def _byte_sum(piece: bytes) -> int:
    """Add 256 bytes: ten times as fast as ``sum``, and exact, as Adler-32 counts modulo 65521 (RFC 1950)."""
    return (adler32(piece) & 0xFFFF) - 1

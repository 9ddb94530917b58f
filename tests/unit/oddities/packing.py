"""Gzip as it may be written (RFC 1952, 2.3), and what is no gzip."""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import TYPE_CHECKING, Final

from tests.unit.tarballs import END, file, gzipped

if TYPE_CHECKING:
    from collections.abc import Mapping

FHCRC, FEXTRA, FNAME, FCOMMENT = 2, 4, 8, 16
EXTRA: Final = b"\x06\x00AB\x02\x00xy"


def head(
    flags: int = 0, *, method: int = 8, time: bytes = bytes(4), system: int = 3, name: bytes = b"artifact.tar"
) -> bytes:
    """The header of a member; its optional fields are those of ``flags``."""
    fixed = b"\x1f\x8b" + bytes([method, flags]) + time + b"\2" + bytes([system])
    fields = {FEXTRA: EXTRA, FNAME: name + b"\0", FCOMMENT: b"so it goes\0"}
    written = fixed + b"".join(field for flag, field in fields.items() if flags & flag)
    return written + (zlib.crc32(written) & 0xFFFF).to_bytes(2, "little") * bool(flags & FHCRC)


def packed_with(unpacked: bytes, gzip_head: bytes, *, level: int = 6) -> bytes:
    """A member with this header."""
    deflate = zlib.compressobj(level, wbits=-15)
    tail = zlib.crc32(unpacked).to_bytes(4, "little") + len(unpacked).to_bytes(4, "little")
    return gzip_head + deflate.compress(unpacked) + deflate.flush() + tail


HEADERS: Final[Mapping[str, bytes]] = {
    "nothing": head(),
    "FTEXT": head(1),
    "FHCRC": head(FHCRC),
    "FEXTRA": head(FEXTRA),
    "FNAME": head(FNAME),
    "FCOMMENT": head(FCOMMENT),
    "all of them": head(1 | FHCRC | FEXTRA | FNAME | FCOMMENT),
    "a long name": head(FNAME, name=b"n" * 70_000),
    "a time and an unknown system": head(time=b"\xff" * 4, system=255),
}

ARCHIVE: Final = file(b"f", b"x") + END
UNPACKABLE: Final[Mapping[str, bytes]] = {
    "a plain tar": ARCHIVE,
    "zlib": zlib.compress(ARCHIVE),
    "raw deflate": packed_with(ARCHIVE, b""),
    "bzip2": bz2.compress(ARCHIVE),
    "xz": lzma.compress(ARCHIVE),
    "zstd": b"\x28\xb5\x2f\xfd" + bytes(30),
    "zeros before gzip": bytes(10) + gzipped(ARCHIVE),
    "gzip of an endless name": b"\x1f\x8b\x08\x08" + b"n" * (1 << 18),
    "gzip of a wrong header checksum": packed_with(ARCHIVE, head(FHCRC)[:-1] + b"?"),
    "gzip of a flag that is reserved": packed_with(ARCHIVE, head(32)),
    "gzip of another method": packed_with(ARCHIVE, head(method=7)),
}

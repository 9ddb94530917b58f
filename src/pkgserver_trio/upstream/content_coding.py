"""A content coding that somebody on the way added, though none was asked for (RFC 9110, 8.4).

A tarball is gzip already. Some servers say `Content-Encoding: gzip` of that, and some proxies compress it again: only
the bytes tell. What is gzip once is the tarball; what is gzip twice is to be decompressed once.
"""

from __future__ import annotations

import zlib
from typing import Final

_GZIP_MAGIC: Final = b"\x1f\x8b"
_GZIP_WBITS: Final = 31
_ENOUGH_BYTES: Final = 4096  # who packs a tarball again writes a header of 10


def is_gzip_twice(start: bytes) -> bool | None:
    """Tell whether a body that starts so is gzip within gzip; None: these are too few bytes to tell.

    Never None of 4096 bytes or more: a header without an end, or packing without content, is not waited for.
    """
    if start[:2] != _GZIP_MAGIC[: len(start)]:
        return False
    try:
        inner = zlib.decompressobj(_GZIP_WBITS).decompress(start, len(_GZIP_MAGIC))
    except zlib.error:
        return False
    return None if len(inner) < len(_GZIP_MAGIC) and len(start) < _ENOUGH_BYTES else inner == _GZIP_MAGIC

"""Single byte ranges (RFC 9110, section 14): header text and size in, a decision out.

Where RFC 9110 would have a header ignored, two are not, so that nginx and this server answer alike: ``last < first`` is
unsatisfiable (PkgServer.jl says so too), and blanks are accepted after ``bytes=``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# More than 18 digits do not match, so a number fits 64 bits everywhere and int() stays cheap.
_SINGLE = re.compile("bytes= *([0-9]{0,18}) *- *([0-9]{0,18}) *", re.IGNORECASE | re.ASCII)
_CONTENT_RANGE = re.compile("bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", re.IGNORECASE | re.ASCII)
_ANY_CONTENT_RANGE = re.compile("bytes (?:[0-9]{1,18}-[0-9]{1,18}|[*])/(?:[0-9]{1,18}|[*])", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes from ``start`` up to, but not including, ``stop``: never empty when it comes from ``parse_range``."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def content_range(self, size: int) -> str:
        """Return the ``Content-Range`` of a 206 for a resource of ``size`` bytes."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"


class UnsatisfiableRangeError(Exception):
    """Well-formed, but selects no byte: answer 416 with ``Content-Range: bytes */<size>``."""


def parse_range(header: str | None, size: int) -> ByteRange | None:
    """Return the bytes to serve of ``size``, or None for all of them.

    None means that there is no ``Range`` header or that it is to be ignored: malformed, another unit, absurdly long,
    several ranges. Raises ``UnsatisfiableRangeError`` for a first byte past the end, ``last < first`` and ``-0``.
    """
    match = _SINGLE.fullmatch((header or "").strip(" \t"))
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first:
        start, stop = int(first), min(int(last) + 1, size) if last else size
    else:
        start, stop = max(size - int(last), 0), size
    if start >= stop:
        raise UnsatisfiableRangeError
    return ByteRange(start, stop)


def size_by_rest(content_range: str | None, start: int) -> int | None:
    """Return the size of the whole when a 206 with this ``Content-Range`` holds all from byte ``start`` on, else None.

    A size is more than ``start``, so it is never 0.
    """
    match = _CONTENT_RANGE.fullmatch((content_range or "").strip(" \t"))
    if match is None or int(match[1]) != start or not start <= int(match[2]) == int(match[3]) - 1:
        return None
    return int(match[3])


def is_content_range(text: str) -> bool:
    """Tell whether it is the ``Content-Range`` of a 206 or a 416 in bytes."""
    return _ANY_CONTENT_RANGE.fullmatch(text) is not None

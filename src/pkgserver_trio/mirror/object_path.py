"""Which object of which bucket a raw path names: `/mirror/<bucket>/<key>`.

The key is kept as the client wrote it, and goes to the origin so: what `%2F` or `+` mean there is the origin's to say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_to_bytes

PREFIX: Final = "/mirror/"
#: What S3 allows, in bytes after decoding.
MAX_KEY_BYTES: Final = 1024

# What RFC 3986 allows in a path, with whole escapes. `#` and `?` end a path; nothing else is left to a library to mend.
_KEY = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})+")
_CONTROLS = re.compile(rb"[\x00-\x1f\x7f\\]")


class HostileKeyError(Exception):
    """No origin is asked for such a key; the text says why."""


@dataclass(frozen=True, slots=True)
class ObjectName:
    """An object: its bucket, and its key as it stands in URLs."""

    bucket: str
    key: str

    @property
    def path(self) -> str:
        """The path of its URL, on this server."""
        return f"{PREFIX}{self.bucket}/{self.key}"


def split_object_path(path: str) -> tuple[str, str] | None:
    """Return the bucket and the key of a raw path without its query, unchecked; None when it is another path."""
    if not path.startswith(PREFIX):
        return None
    bucket, _, key = path.removeprefix(PREFIX).partition("/")
    return bucket, key


def canonical_key(key: str) -> str:
    """Return a checked key as signatures have it: each byte that needs no escape without one, all others with it."""
    return quote(unquote_to_bytes(key), safe="/")


def check_key(key: str) -> None:
    """Raise HostileKeyError when no object can be called so, or an origin might take it for another path."""
    if len(key) > 3 * MAX_KEY_BYTES:
        raise HostileKeyError("the key is too long")
    if not _KEY.fullmatch(key):
        raise HostileKeyError("the key is empty, or has a character or an escape that no path has")
    decoded = unquote_to_bytes(key)
    if len(decoded) > MAX_KEY_BYTES:
        raise HostileKeyError(f"the key is longer than {MAX_KEY_BYTES} bytes")
    if _CONTROLS.search(decoded):
        raise HostileKeyError("the key has a control character or a backslash")
    segments = decoded.split(b"/")
    if {b".", b".."} & set(segments) or b"" in segments[:-1]:
        raise HostileKeyError("the key has a segment that is empty, . or ..")

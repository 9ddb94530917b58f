"""Which digest an origin tells of an object, and computing it. Pure.

Checked: the checksums of whole objects that S3 has names for, but xxHash; where none is told, an entity tag that is an
MD5. Not checked: whatever is made of the checksums of parts.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from pkgserver_trio.mirror.crc import CRC_BYTES, crc

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CHECKSUM_BYTES: Final = {"sha512": 64, "sha256": 32, "sha1": 20, "md5": 16, **CRC_BYTES}
"""What can be computed here, the strongest first, with its size in bytes."""
_MD5_TAG = re.compile(r'"([0-9a-f]{32})"')
#: With these, the tag is 32 digits too, and yet no MD5 of the content.
_ENCRYPTED: Final = ("x-amz-server-side-encryption-customer-algorithm", "x-amz-server-side-encryption-aws-kms-key-id")


class _Hash(Protocol):
    def update(self, piece: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Digest:
    """An algorithm, by the name that S3 has for it, and what it has to give, in lower-case hexadecimal digits."""

    algorithm: str
    value: str


def digest_of(headers: Mapping[str, str]) -> Digest | None:
    """Return the strongest checksum in an origin's headers that can be checked, else the MD5 that may be its tag.

    The names of headers are in lower case.
    """
    if headers.get("x-amz-checksum-type", "FULL_OBJECT").upper() == "FULL_OBJECT":
        for algorithm, length in CHECKSUM_BYTES.items():
            value = _decoded(headers.get(f"x-amz-checksum-{algorithm}", ""), length)
            if value is not None:
                return Digest(algorithm, value)
    coded = headers.get("x-amz-server-side-encryption", "AES256") != "AES256" or any(n in headers for n in _ENCRYPTED)
    match = _MD5_TAG.fullmatch(headers.get("etag", ""))
    return None if match is None or coded else Digest("md5", match[1])


def _decoded(text: str, length: int) -> str | None:
    """Return the hexadecimal digits of a checksum; None for one of parts (`...-3`), or of another length."""
    try:
        value = b64decode(text, validate=True)
    except ValueError:
        return None
    return value.hex() if len(value) == length else None


class DigestHasher:
    """Computes what `expected` is compared with; with nothing to compare, it only sees that bytes can be read."""

    def __init__(self, expected: Digest | None) -> None:
        self._expected = expected
        self._hash: _Hash | None = None
        if expected is not None:
            self._hash = _begin(expected.algorithm)

    def steps(self, piece: bytes) -> Iterator[int]:
        """Take the next bytes, and yield how many these were."""
        if self._hash is not None:
            self._hash.update(piece)
        yield len(piece)

    def find_fault(self) -> str | None:
        """Return how what was taken differs from what is expected; None when it does not."""
        if self._expected is None or self._hash is None:
            return None
        found = self._hash.hexdigest()
        return None if found == self._expected.value else f"sent bytes whose {self._expected.algorithm} is {found}"


def _begin(algorithm: str) -> _Hash:
    return crc(algorithm) if algorithm in CRC_BYTES else hashlib.new(algorithm, usedforsecurity=False)

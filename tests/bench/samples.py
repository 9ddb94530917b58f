"""What is fetched: artifacts of about the asked sizes, a quarter of which compresses away, in a web server's folder."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from tests.soak.catalogue import tree_hash
from tests.unit.tarballs import END, file

if TYPE_CHECKING:
    from pathlib import Path

_FILE_BYTES: Final = 256 * 1024
#: 64 byte values are left of 256: so Huffman codes are all that a compressor finds.
_NARROW: Final = bytes(value & 63 for value in range(256))
_KEPT: Final = 0.76


@dataclass(frozen=True, slots=True)
class Sample:
    """A tarball that was written below the root of a web server."""

    path: str
    size_bytes: int


def write_sample(root: Path, seed: str, size_bytes: int) -> Sample:
    """Write an artifact of about so many bytes; other seeds, other artifacts."""
    random = Random(seed)
    left, files = int(size_bytes * _KEPT**-1), dict[bytes, bytes]()
    while left > 0:
        content = random.randbytes(min(left, _FILE_BYTES)).translate(_NARROW)
        files[b"%06d" % len(files)] = content
        left -= len(content)
    body = gzip.compress(b"".join(file(name, content) for name, content in files.items()) + END, 1, mtime=0)
    path = f"/artifact/{tree_hash(files)}"
    target = root / path[1:]
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(body)
    return Sample(path, len(body))

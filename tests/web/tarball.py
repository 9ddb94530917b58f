"""A large artifact that no compression shrinks, for tests in which an answer must outgrow every buffer on its way."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from tests.unit.tarballs import END, file, gzipped


@dataclass(frozen=True, slots=True)
class Tarball:
    """A body, and the path that its tree hash gives it."""

    path: str
    body: bytes


def build_tarball(size_bytes: int) -> Tarball:
    """Return a tarball of one file of `size_bytes`; its tree hash is computed here, not by the server's own hasher."""
    content = hashlib.shake_256(b"noise").digest(size_bytes)
    blob = _git_id(b"blob", content)
    tree = _git_id(b"tree", b"100644 noise\0" + blob).hex()
    return Tarball(f"/artifact/{tree}", gzipped(file(b"noise", content) + END))


def _git_id(kind: bytes, content: bytes) -> bytes:
    return hashlib.sha1(b"%b %d\0%b" % (kind, len(content), content), usedforsecurity=False).digest()

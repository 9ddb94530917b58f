"""A large artifact that no compression shrinks, for tests in which an answer must outgrow every buffer on its way."""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.unit.tarballs import END, file, gzipped

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Tarball:
    """A body, and the path that its tree hash gives it."""

    path: str
    body: bytes


def build_tarball(size_bytes: int) -> Tarball:
    """Return a tarball of one file of `size_bytes`; its tree hash is computed here, not by the server's own hasher."""
    content = hashlib.shake_256(b"noise").digest(size_bytes)
    return Tarball(f"/artifact/{_tree_hash(content)}", gzipped(file(b"noise", content) + END))


def unpacked_tree_hash(path: Path) -> str:
    """Return the tree hash of what is really in such a tarball, read by other code than the server's."""
    with tarfile.open(path, "r:gz") as tar:
        content = tar.extractfile("noise")
        assert tar.getnames() == ["noise"]
        assert content is not None
        return _tree_hash(content.read())


def _tree_hash(content: bytes) -> str:
    return _git_id(b"tree", b"100644 noise\0" + _git_id(b"blob", content)).hex()


def _git_id(kind: bytes, content: bytes) -> bytes:
    return hashlib.sha1(b"%b %d\0%b" % (kind, len(content), content), usedforsecurity=False).digest()

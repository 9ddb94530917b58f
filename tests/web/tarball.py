"""A large artifact that no compression shrinks, for tests in which an answer must outgrow every buffer on its way."""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.unit.tarballs import EMPTY_TREE, END, directory, file, gzipped

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Tarball:
    """A body, and the path that its tree hash gives it."""

    path: str
    body: bytes


def build_tarball(size_bytes: int, seed: bytes = b"noise") -> Tarball:
    """Return a tarball of one file of `size_bytes`, another for each seed; its tree hash is computed here."""
    content = hashlib.shake_256(seed).digest(size_bytes)
    return Tarball(f"/artifact/{_tree_hash(content)}", gzipped(file(b"noise", content) + END))


def build_with_empty_folder(seed: bytes) -> tuple[Tarball, Tarball]:
    """Return one body under its two names: the tree hash without its empty folder, as in git, and with it."""
    with_empty = _git_id(b"tree", b"40000 empty\0" + bytes.fromhex(EMPTY_TREE) + _entry(seed))
    body = gzipped(directory(b"empty") + file(b"noise", seed) + END)
    return Tarball(f"/artifact/{_tree_hash(seed)}", body), Tarball(f"/artifact/{with_empty.hex()}", body)


def unpacked_tree_hash(path: Path) -> str:
    """Return the tree hash of what is really in such a tarball, read by other code than the server's."""
    with tarfile.open(path, "r:gz") as tar:
        content = tar.extractfile("noise")
        assert tar.getnames() == ["noise"]
        assert content is not None
        return _tree_hash(content.read())


def _tree_hash(content: bytes) -> str:
    return _git_id(b"tree", _entry(content)).hex()


def _entry(content: bytes) -> bytes:
    return b"100644 noise\0" + _git_id(b"blob", content)


def _git_id(kind: bytes, content: bytes) -> bytes:
    return hashlib.sha1(b"%b %d\0%b" % (kind, len(content), content), usedforsecurity=False).digest()

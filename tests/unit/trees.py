"""Trees as values, and what git says of them: the real one, and its definition written down once more.

A name is text as the file system has it: bytes that are not UTF-8 are surrogates (``os.fsdecode``).
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from hashlib import sha1
from typing import TYPE_CHECKING

from pkgserver_trio.tarballs.tree_hash import TreeHashes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class File:
    content: bytes
    executable: bool = False


@dataclass(frozen=True)
class Link:
    target: str


Node = File | Link | dict[str, "Node"]


def nested(path: str, node: Node) -> dict[str, Node]:
    """The tree that holds nothing but ``node``, at ``path``."""
    *above, name = path.split("/")
    tree = {name: node}
    for folder in reversed(above):
        tree = {folder: tree}
    return tree


def walk(tree: Mapping[str, Node], above: str = "") -> Iterator[tuple[str, Node]]:
    for name, node in tree.items():
        yield above + name, node
        if isinstance(node, dict):
            yield from walk(node, above + name + "/")


def reference(node: Node) -> tuple[bytes, bytes]:
    """Git's mode and hash of a node, empty directories included: the definition, written down once more."""
    if isinstance(node, File):
        kind, mode, content = b"blob", b"100755" if node.executable else b"100644", node.content
    elif isinstance(node, Link):
        kind, mode, content = b"blob", b"120000", os.fsencode(node.target)
    else:
        kind, mode, content = b"tree", b"40000", b""
        in_order = sorted(node.items(), key=lambda item: os.fsencode(item[0]) + b"/" * isinstance(item[1], dict))
        for name, child in in_order:
            child_mode, digest = reference(child)
            content += child_mode + b" " + os.fsencode(name) + b"\0" + digest
    return mode, sha1(kind + b" %d\0" % len(content) + content, usedforsecurity=False).digest()


def hashes_of_tree(tree: Mapping[str, Node]) -> TreeHashes:
    """Both hashes by the definition."""
    kept = _without_empty_folders(tree)
    return TreeHashes(skip_empty=reference(kept)[1].hex(), with_empty=reference(dict(tree))[1].hex())


def _without_empty_folders(tree: Mapping[str, Node]) -> dict[str, Node]:
    kept = ((name, _without_empty_folders(node) if isinstance(node, dict) else node) for name, node in tree.items())
    return {name: node for name, node in kept if node != {}}


class Git:
    """The real one, in a repository of its own, deaf to the settings of whoever runs the tests."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._trees = 0
        self._environment = {
            "PATH": os.environ["PATH"],
            "GIT_DIR": str(root / "repository"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        self._run("init", "--quiet")

    def tree_hash(self, tree: Mapping[str, Node]) -> str:
        self._trees += 1
        work = self._root / f"work{self._trees}"
        work.mkdir()
        for path, node in walk(tree):
            self.write(work / path, node)
        return self.tree_hash_of(work)

    def tree_hash_of(self, work: Path) -> str:
        """Return what git calls the content of a folder."""
        self._trees += 1
        place = {"GIT_WORK_TREE": str(work), "GIT_INDEX_FILE": str(self._root / f"index{self._trees}")}
        self._run("add", "--all", "--force", cwd=work, place=place)
        return self._run("write-tree", cwd=work, place=place).decode().strip()

    def commit(self, tree_hash: str) -> str:
        """Return a commit of a tree that is in the repository."""
        author = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        return self._run("commit-tree", "-m", "all", tree_hash, place=author).decode().strip()

    def archive(self, commit: str) -> bytes:
        """Return a commit as ``git archive`` packs it."""
        return self._run("archive", "--format=tar.gz", commit)

    @staticmethod
    def write(path: Path, node: Node) -> None:
        if isinstance(node, File):
            path.write_bytes(node.content)
            path.chmod(0o755 if node.executable else 0o644)
        elif isinstance(node, Link):
            path.symlink_to(node.target)
        else:
            path.mkdir()

    def _run(self, *arguments: str, cwd: Path | None = None, place: Mapping[str, str] | None = None) -> bytes:
        environment = {**self._environment, **(place or {})}
        return subprocess.run(["git", *arguments], cwd=cwd, env=environment, check=True, capture_output=True).stdout

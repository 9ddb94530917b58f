"""What git hosts answer, read strictly: an answer of another shape is none, and says nothing about a hash.

GitHub and Gitea name the tree of each commit. GitLab does not: there the root's entries are hashed as git hashes them.
The caller bounds the size of every body.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from hashlib import sha1
from typing import TYPE_CHECKING, Any

from pkgserver_trio.registries.origins import Forge

if TYPE_CHECKING:
    from collections.abc import Iterable

_HASH = re.compile(r"[0-9a-f]{40}")
_MODE = re.compile(r"0?([1-7][0-7]{4,5})")
_DIRECTORY = b"40000"
# A link's query and, among its parameters, that it is the next page's.
_NEXT = re.compile(r"""<[^<>?]*\?([!"$-;=?-~]{1,1000})>\s*;(?:[^<,]*;)?\s*rel="?next"?\s*(?:[;,]|$)""", re.IGNORECASE)


class UnexpectedAnswerError(ValueError):
    """The answer is not what was asked for; the text is of our own words only."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit and its root tree, both by hash; the tree is None where the host does not name it."""

    id: str
    tree_hash: str | None


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One entry of a tree: mode and name as git writes them, the hash as 40 digits."""

    mode: bytes
    name: bytes
    hash: str


def parse_commits(forge: Forge, body: bytes) -> tuple[Commit, ...]:
    """Return the commits that a host lists, newest first. Raises UnexpectedAnswerError."""
    read = _commit_without_tree if forge is Forge.GITLAB else _commit
    try:
        return tuple(map(read, _items(body)))
    except (LookupError, TypeError, ValueError):
        raise UnexpectedAnswerError("its answer is no list of commits") from None


def parse_tree(body: bytes) -> tuple[TreeEntry, ...]:
    """Return the entries that GitLab lists of a tree. Raises UnexpectedAnswerError."""
    try:
        return tuple(map(_entry, _items(body)))
    except (LookupError, TypeError, ValueError):
        raise UnexpectedAnswerError("its answer is no list of a tree's entries") from None


def root_tree_hash(entries: Iterable[TreeEntry]) -> str:
    """Return the hash of the tree that has these entries, in any order; one that two pages hold counts once.

    Raises UnexpectedAnswerError for two of one name.
    """
    distinct = set(entries)
    if len({entry.name for entry in distinct}) < len(distinct):
        raise UnexpectedAnswerError("it lists a tree with two entries of one name")

    def place(entry: TreeEntry) -> bytes:
        return entry.name + b"/" if entry.mode == _DIRECTORY else entry.name

    ordered = sorted(distinct, key=place)
    content = b"".join(b"%s %s\0%s" % (entry.mode, entry.name, bytes.fromhex(entry.hash)) for entry in ordered)
    return sha1(b"tree %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def next_query(link: str | None) -> str | None:
    """Return the query of the next page that a ``Link`` header names, if it does (RFC 8288).

    Only the query is believed: host and path stay those that were asked.
    """
    found = _NEXT.search(link or "")
    return found[1] if found else None


def _items(body: bytes) -> list[Any]:
    try:
        items = json.loads(body)
    except RecursionError:
        raise ValueError from None
    if not isinstance(items, list):
        raise TypeError
    return items


def _hash(text: str) -> str:
    if not _HASH.fullmatch(text):
        raise ValueError
    return text


def _commit(item: Any) -> Commit:  # noqa: ANN401 # JSON of any shape
    return Commit(_hash(item["sha"]), _hash(item["commit"]["tree"]["sha"]))


def _commit_without_tree(item: Any) -> Commit:  # noqa: ANN401 # the same
    return Commit(_hash(item["id"]), None)


def _entry(item: Any) -> TreeEntry:  # noqa: ANN401 # the same
    mode, name = _MODE.fullmatch(item["mode"]), str.encode(item["name"])
    if mode is None or not name or b"/" in name or b"\0" in name:
        raise ValueError
    return TreeEntry(mode[1].encode(), name, _hash(item["id"]))

"""The git tree hash of a gzip'd tarball, computed while it arrives; protocol page, "Tree hash".

1. A file's content goes straight into its SHA-1; kept are only names, modes and hashes, some 150 bytes for each.
2. Git has no empty directories (skip-empty); Julia's ``Tar.tree_hash`` counts them, nested ones too (with-empty).
3. What was refused once stays refused: no later call makes a hash of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from typing import TYPE_CHECKING, Final

from pkgserver_trio.tarballs.header import shown
from pkgserver_trio.tarballs.inflate import Inflater, TarballError
from pkgserver_trio.tarballs.stream import TarLimits, TarStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["TarLimits", "TarballError", "Tree", "TreeHasher", "TreeHashes"]

# A leaf is kept as its mode and its hash, as git writes them around the name.
_FILE: Final = b"100644 "
_EXECUTABLE: Final = b"100755 "
_SYMLINK: Final = b"120000 "
_DIRECTORY: Final = b"40000 "
_MODE_BYTES: Final = len(_FILE)
_ENTRY_NAME_BYTES: Final = 256
_MAX_NAME_BYTES: Final = 4096  # Linux' PATH_MAX: no client could unpack a longer one


@dataclass(frozen=True, slots=True)
class TreeHashes:
    """Both hashes of one tree, each of 40 hexadecimal digits; they differ only if it has empty directories."""

    skip_empty: str
    with_empty: str

    def include(self, tree_hash: str) -> bool:
        """Tell whether a tree may be called `tree_hash`: either variant will do (docs/protocol.md, "Resources")."""
        return tree_hash in {self.skip_empty, self.with_empty}


class TreeHasher:
    """Hashes one gzip'd tarball: feed it, then finish. Takes any cut into pieces, and never keeps one."""

    def __init__(self, limits: TarLimits, *, inflater: Inflater | None = None) -> None:
        self._inflater = inflater or Inflater()
        self._tree = Tree(limits.max_members)
        self._stream = TarStream(limits, self._tree)
        self._refusal: TarballError | None = None

    def feed(self, piece: bytes | memoryview) -> None:
        """Hash the next bytes of the compressed tarball; raise TarballError as soon as they cannot be right."""
        for _ in self.steps(piece):
            pass

    def steps(self, piece: bytes | memoryview) -> Iterator[int]:
        """Do what `feed` does, but pause whenever up to ``PIECE_BYTES`` are unpacked and hashed: yields how many.

        The steps have to be gone to their end before the next piece, or ``finish``. Raises TarballError.
        """
        self._check()
        try:
            for unpacked in self._inflater.feed(piece):
                self._stream.feed(unpacked)
                yield len(unpacked)
        except TarballError as error:
            self._refusal = error
            raise

    def finish(self) -> TreeHashes:
        """Return the hashes; raise TarballError if the tarball is not complete."""
        self._check()
        self._inflater.finish()
        self._stream.finish()
        return self._tree.hashes()

    def _check(self) -> None:
        if self._refusal is not None:
            raise TarballError(str(self._refusal)) from self._refusal


class Tree:
    """A tree of files, links and directories in memory, built path by path and in any order.

    The calls are those of ``TarSink``. It takes ``max_entries``, directories that only their contents name included; a
    name or directory path counts as one entry more for every 256 bytes of it, so that the number bounds the memory.
    Raises TarballError for one more, for a path that leads out of the tree, is empty or too long or holds a NUL, and
    for one that is there already (but for directories).
    """

    def __init__(self, max_entries: int) -> None:
        self._max_entries = self._room = max_entries
        # From a directory's path to its entries; parents come first. A directory's name and path end in a slash, here:
        # that is how git sorts it, and how it never meets a file's name. It has no leaf, hence an empty one.
        self._directories: dict[bytes, dict[bytes, bytes]] = {b"": {}}
        self._finish_file: Callable[[], None]

    def begin_file(self, path: bytes, size_bytes: int, *, executable: bool) -> Callable[[memoryview], object]:
        """Reserve the path; return what takes the content, ``size_bytes`` in all."""
        entries, name = self._place(path)
        blob = sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)
        mode = _EXECUTABLE if executable else _FILE

        def finish_file() -> None:
            entries[name] = mode + blob.digest()

        self._finish_file = finish_file
        return blob.update

    def end_file(self) -> None:
        """Add the file that was begun last."""
        self._finish_file()

    def symlink(self, path: bytes, target: bytes) -> None:
        """Add a symbolic link."""
        _check_name(target)
        entries, name = self._place(path)
        entries[name] = _SYMLINK + _object_digest(b"blob", target)

    def hardlink(self, path: bytes, target: bytes) -> None:
        """Add another name of a file or symbolic link that is there; raise TarballError if it is not."""
        parent, name = _split(_parse_path(target))
        leaf = self._directories.get(parent, {}).get(name)
        if leaf is None:
            raise TarballError(f"{shown(path)} is a hard link to {shown(target)}, which is no earlier file")
        entries, name = self._place(path)
        entries[name] = leaf

    def directory(self, path: bytes) -> None:
        """Add a directory and those above it, unless they are there."""
        plain = _parse_path(path)
        self._entries(plain + b"/" if plain else plain)

    def hashes(self) -> TreeHashes:
        """Return the hashes of all that was added."""
        with_empty = self._root_hash(skip_empty=False)
        if all(entries for path, entries in self._directories.items() if path):
            return TreeHashes(with_empty, with_empty)
        return TreeHashes(self._root_hash(skip_empty=True), with_empty)

    def _place(self, path: bytes) -> tuple[dict[bytes, bytes], bytes]:
        """Return where a new leaf goes: the entries of its directory, and its name among them."""
        parent, name = _split(_parse_path(path))
        entries = self._entries(parent)
        if not name or name in entries or name + b"/" in entries:  # without a name it is the root
            raise TarballError(f"{shown(path)} is in the archive twice")
        self._charge(name)
        return entries, name

    def _entries(self, path: bytes) -> dict[bytes, bytes]:
        """Return the entries of a directory, after adding it and those above it where they are missing."""
        missing = []
        while path not in self._directories:
            missing.append(path)
            path = _split(path)[0]
        entries = self._directories[path]
        for absent in reversed(missing):
            name = _split(absent)[1]
            if name[:-1] in entries:
                raise TarballError(f"{shown(absent[:-1])} is a directory and a file")
            self._charge(absent)
            entries[name] = b""
            entries = self._directories[absent] = {}
        return entries

    def _charge(self, name: bytes) -> None:
        self._room -= 1 + len(name) // _ENTRY_NAME_BYTES
        if self._room < 0:
            raise TarballError(f"the tarball has more than {self._max_entries} members")

    def _root_hash(self, *, skip_empty: bool) -> str:
        digests: dict[bytes, bytes] = {}
        # Backwards, the children come before their parents: no recursion, so no tree is too deep.
        for path, entries in reversed(self._directories.items()):
            content = b"".join(_tree_entries(path, entries, digests))
            if content or not path or not skip_empty:
                digests[path] = _object_digest(b"tree", content)
        return digests[b""].hex()


def _tree_entries(path: bytes, entries: dict[bytes, bytes], digests: dict[bytes, bytes]) -> Iterator[bytes]:
    """Yield the entries of the directory ``path`` as git writes and sorts them; a child without digest is skipped."""
    for name, leaf in sorted(entries.items()):
        if leaf:
            yield leaf[:_MODE_BYTES] + name + b"\0" + leaf[_MODE_BYTES:]
        elif digest := digests.pop(path + name, None):
            yield _DIRECTORY + name[:-1] + b"\0" + digest


def _split(path: bytes) -> tuple[bytes, bytes]:
    """Split a path into its directory (ends in a slash, or is empty: the root) and its name."""
    start = path.rfind(b"/", 0, -1) + 1
    return path[:start], path[start:]


def _object_digest(kind: bytes, content: bytes) -> bytes:
    return sha1(b"%s %d\0" % (kind, len(content)) + content, usedforsecurity=False).digest()


def _parse_path(name: bytes) -> bytes:
    """Return a member's name in plain components: no ``./``, no ``//``, no slash at the end; the root is ``b""``."""
    _check_name(name)
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if name.startswith(b"/") or b".." in parts:
        raise TarballError(f"{shown(name)} leads out of the tree")
    return b"/".join(parts)


def _check_name(name: bytes) -> None:
    if not name:
        raise TarballError("a member's name or target is empty")
    if b"\0" in name:
        raise TarballError(f"a name holds a NUL: {shown(name)}")
    if len(name) > _MAX_NAME_BYTES:
        raise TarballError(f"a name is longer than {_MAX_NAME_BYTES} bytes: {shown(name)}")

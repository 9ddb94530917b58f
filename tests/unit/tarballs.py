"""Small tarballs, right and wrong, block by block."""

from __future__ import annotations

import gzip
import io
import tarfile
from itertools import pairwise
from typing import TYPE_CHECKING

from pkgserver_trio.tarballs.tree_hash import TarLimits, TreeHasher

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pkgserver_trio.tarballs.inflate import Inflater
    from pkgserver_trio.tarballs.tree_hash import TreeHashes

BLOCK = 512
END = bytes(2 * BLOCK)
AMPLE = TarLimits(max_unpacked_bytes=1 << 30, max_members=10_000)
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"

POSIX = b"ustar\x0000"
GNU = b"ustar  \0"
V7 = bytes(8)


def octal(number: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, number)


def header(
    name: bytes,
    *,
    kind: bytes = b"0",
    size: int | bytes = 0,
    mode: int = 0o644,
    target: bytes = b"",
    magic: bytes = POSIX,
    prefix: bytes = b"",
    signed: bool = False,
) -> bytes:
    """One header block; a size in bytes is taken as the raw field. ``signed``: the checksum of some old writers."""
    size_field = octal(size, 12) if isinstance(size, int) else size
    front = name.ljust(100, b"\0") + octal(mode, 8) + bytes(16) + size_field + bytes(12)
    back = kind + target.ljust(100, b"\0") + magic + bytes(80) + prefix.ljust(155, b"\0")
    filled = (front + b" " * 8 + back).ljust(BLOCK, b"\0")
    total = sum(memoryview(filled).cast("b")) if signed else sum(filled)
    return filled[:148] + b"%06o\0 " % total + filled[156:]


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % BLOCK)


def file(name: bytes, content: bytes = b"", *, mode: int = 0o644) -> bytes:
    return header(name, size=len(content), mode=mode) + padded(content)


def directory(name: bytes) -> bytes:
    return header(name, kind=b"5", mode=0o755)


def symlink(name: bytes, target: bytes) -> bytes:
    return header(name, kind=b"2", target=target)


def hardlink(name: bytes, target: bytes) -> bytes:
    return header(name, kind=b"1", target=target)


def extension(kind: bytes, payload: bytes) -> bytes:
    """An extension header (pax ``x`` and ``g``, GNU ``L`` and ``K``) with its payload."""
    return header(b"././@LongLink", kind=kind, size=len(payload)) + padded(payload)


def record(key: bytes, word: bytes) -> bytes:
    """One pax record, whose length counts its own digits."""
    rest = b" " + key + b"=" + word + b"\n"
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return b"%d" % length + rest


def pax(records: Mapping[bytes, bytes], kind: bytes = b"x") -> bytes:
    return extension(kind, b"".join(record(key, word) for key, word in records.items()))


def pieces(packed: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Cut at these offsets; repeated ones and those past the end give empty pieces."""
    edges = [0, *sorted(cuts), len(packed)]
    return [packed[start:stop] for start, stop in pairwise(edges)]


def hashes_of(
    packed: bytes,
    *,
    cuts: Iterable[int] = (),
    limits: TarLimits = AMPLE,
    inflater: Inflater | None = None,
) -> TreeHashes:
    hasher = TreeHasher(limits, inflater=inflater)
    for piece in pieces(packed, cuts):
        hasher.feed(piece)
    return hasher.finish()


def gzipped(archive: bytes) -> bytes:
    return gzip.compress(archive, compresslevel=1, mtime=0)


def hashes_of_members(*members: bytes, limits: TarLimits = AMPLE) -> TreeHashes:
    """The hashes of an archive of these members, packed and properly ended."""
    return hashes_of(gzipped(b"".join(members) + END), limits=limits)


def tarfile_archive(members: Iterable[tuple[tarfile.TarInfo, bytes]], *, dialect: int) -> bytes:
    """The archive that the standard library writes in this dialect (``tarfile.USTAR_FORMAT`` and so on)."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=dialect) as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


def member_of(
    name: str, content: bytes = b"", *, mode: int = 0o644, kind: bytes = tarfile.REGTYPE, target: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    """One member for ``tarfile_archive``."""
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.type, member.linkname = len(content), mode, kind, target
    return member, content

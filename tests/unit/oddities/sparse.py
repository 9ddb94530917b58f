"""Sparse files in each dialect, and the file that they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.unit.oddities.members import Oddity
from tests.unit.tarballs import BLOCK, GNU, extension, header, octal, padded, pax, record
from tests.unit.trees import File, nested

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Parts = tuple[tuple[int, bytes], ...]
"""What is stored of a file: each part's offset and its bytes."""


def in_blocks(count: int) -> tuple[Parts, int]:
    """A file of as many parts, each a block, and a hole behind each."""
    parts = tuple((place * 1024, b"%03d." % place * (BLOCK // 4)) for place in range(count))
    return (*parts, (count * 1024, b"")), count * 1024


def content(parts: Parts, size: int) -> bytes:
    whole = bytearray(size)
    for offset, part in parts:
        whole[offset : offset + len(part)] = part
    return bytes(whole)


def stored(parts: Parts) -> bytes:
    return b"".join(part for _, part in parts)


def numbers(parts: Parts) -> list[int]:
    return [number for offset, part in parts for number in (offset, len(part))]


def old(parts: Parts, size: int, *, name: bytes = b"f", base_256: bool = False) -> bytes:
    """Old GNU: four parts in the header, 21 in each block that follows."""
    kept = [b"\x80" + number.to_bytes(11, "big") if base_256 else octal(number, 12) for number in numbers(parts)]
    first, others = kept[:8], [kept[start : start + 42] for start in range(8, len(kept), 42)]
    body = stored(parts)
    block = header(name, kind=b"S", size=len(body), magic=GNU)
    sparse = b"".join(first).ljust(96, b"\0") + bytes([bool(others)]) + octal(size, 12)
    block = block[:386] + sparse + block[495:]
    block = block[:148] + octal(sum(block[:148]) + 8 * ord(" ") + sum(block[156:]), 7) + b" " + block[156:]
    for place, fields in enumerate(others, 1):
        block += b"".join(fields).ljust(504, b"\0") + bytes([place < len(others)]) + bytes(7)
    return block + padded(body)


def pax_0_0(parts: Parts, size: int) -> bytes:
    keys = (b"GNU.sparse.offset", b"GNU.sparse.numbytes") * len(parts)
    words = zip(keys, numbers(parts), strict=True)
    records = record(b"GNU.sparse.size", b"%d" % size) + record(b"GNU.sparse.numblocks", b"%d" % len(parts))
    records += b"".join(record(key, b"%d" % number) for key, number in words)
    return extension(b"x", records) + header(b"f", size=len(stored(parts))) + padded(stored(parts))


def pax_0_1(parts: Parts, size: int) -> bytes:
    listed = b",".join(b"%d" % number for number in numbers(parts))
    words = {b"GNU.sparse.size": b"%d" % size, b"GNU.sparse.numblocks": b"%d" % len(parts), b"GNU.sparse.map": listed}
    member = header(b"./GNUSparseFile.1/f", size=len(stored(parts)))
    names = {b"GNU.sparse.name": b"f", b"path": b"./GNUSparseFile.1/f"}
    return pax(words | names) + member + padded(stored(parts))


def pax_1_0(parts: Parts, size: int, *, lines: Sequence[bytes] = ()) -> bytes:
    """``lines``: the map, instead of the right one."""
    right = [b"%d\n" % number for number in (len(parts), *numbers(parts))]
    body = padded(b"".join(lines or right)) + stored(parts)
    return pax(header_1_0(size)) + header(b"./GNUSparseFile.1/f", size=len(body)) + padded(body)


def header_1_0(size: int) -> dict[bytes, bytes]:
    version = {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0"}
    return version | {b"GNU.sparse.name": b"f", b"GNU.sparse.realsize": b"%d" % size}


LAYOUTS: Final[Mapping[str, tuple[Parts, int]]] = {
    "a hole in front": (((1000, b"x" * BLOCK), (5000, b"y")), 5001),
    "a hole at the end": (((0, b"x" * BLOCK), (4096, b"y" * 10), (9000, b"")), 9000),
    "a part of nothing between": (((0, b"x" * BLOCK), (4096, b""), (8192, b"y")), 8193),
    "nothing but a hole": (((9000, b""),), 9000),
    "no hole": (((0, b"x" * 2 * BLOCK), (2 * BLOCK, b"y")), 2 * BLOCK + 1),
    "nothing at all": (((0, b""),), 0),
    "parts for a block more": in_blocks(24),
    "parts for many blocks": in_blocks(149),
}
DIALECTS: Final = {"old GNU": old, "pax 0.0": pax_0_0, "pax 0.1": pax_0_1, "pax 1.0": pax_1_0}

SPARSE: Final[Mapping[str, Oddity]] = {
    f"{dialect}: {name}": Oddity(write(*layout), {"f": File(content(*layout))})
    for dialect, write in DIALECTS.items()
    for name, layout in LAYOUTS.items()
} | {
    "old GNU: a long name": Oddity(
        extension(b"L", b"d/" * 100 + b"f\0") + old(((3, b"abc"),), 6),
        nested("d/" * 100 + "f", File(b"\0\0\0abc")),
    ),
    "old GNU: numbers in base 256": Oddity(old(((3, b"abc"),), 6, base_256=True), {"f": File(b"\0\0\0abc")}),
}

FAR: Final = 1 << 40
UNREADABLE: Final[Mapping[str, tuple[bytes, str]]] = {
    "parts in no order": (pax_0_1(((500, b"x"), (100, b"y")), 900), "out of order"),
    "parts over each other": (old(((0, b"xx"), (1, b"y")), 900), "out of order"),
    "a part behind the end": (pax_1_0(((900, b"x"),), 900), "out of order"),
    "a map of less than is stored": (pax_1_0(((1, b"xy"),), 9, lines=[b"1\n1\n1\n"]), "does not fit"),
    "a map of more than is stored": (pax_1_0(((1, b"x"),), 9, lines=[b"1\n1\n2\n"]), "does not fit"),
    "a map that ends early": (old(((0, b"x"),), 900), "ends before the file"),
    "a map of nothing, for a file": (old((), 900), "ends before the file"),
    "a part of less than a block": (pax_0_0(((0, b"x"), (BLOCK, b"y")), BLOCK + 1), "in no whole blocks"),
    "an offset without a length": (
        pax({b"GNU.sparse.map": b"1", b"GNU.sparse.size": b"9"}) + header(b"f"),
        "out of order",
    ),
    "an empty map": (pax({b"GNU.sparse.map": b"", b"GNU.sparse.size": b"0"}) + header(b"f"), "is none: b''"),
    "a map in letters": (pax({b"GNU.sparse.map": b"1,x", b"GNU.sparse.size": b"9"}) + header(b"f"), "b'x'"),
    "no size": (pax({b"GNU.sparse.map": b"1,0"}) + header(b"f"), "a number of a sparse file is none: b''"),
    "a dialect of the future": (
        pax({b"GNU.sparse.major": b"2", b"GNU.sparse.minor": b"0"}) + header(b"f"),
        "unknown dialect: b'2.0'",
    ),
    "a map that is cut": (pax(header_1_0(9)) + header(b"f", size=4) + padded(b"1\n1\n"), "truncated"),
    "no map": (pax(header_1_0(9)) + header(b"f"), "truncated"),
    "a map that is no number": (pax_1_0((), 9, lines=[b"one\n"]), "b'one'"),
    "a map with more lines": (pax_1_0((), 9, lines=[b"0\n7\n"]), "malformed"),
    "a map with letters": (pax_1_0((), 9, lines=[b"1\n1\nx\n"]), "malformed"),
    "a map without an end": (pax_1_0((), 9, lines=[b"9" * 18 + b"\n", b"1\n" * (1 << 20)]), "too large"),
    "an old map without an end": (
        old(tuple((place, b"") for place in range(50_000)), 50_000),
        "b'f' is a sparse file with too large a map",
    ),
    "more than may be": (pax_1_0((), FAR), "b'f' alone is larger"),
}

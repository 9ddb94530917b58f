"""Odd and right: members as some archiver has written them, byte by byte, and the tree that they unpack to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.unit.tarballs import (
    BLOCK,
    GNU,
    V7,
    directory,
    extension,
    file,
    hardlink,
    header,
    octal,
    padded,
    pax,
    symlink,
)
from tests.unit.trees import File, Link, Node, nested

if TYPE_CHECKING:
    from collections.abc import Mapping


class Oddity(NamedTuple):
    """What is in an archive before its end, and the tree."""

    members: bytes
    tree: Mapping[str, Node]


X: Final = File(b"x")
EMPTY: Final = File(b"")
RUN: Final = File(b"x", executable=True)
LONG: Final = "/".join(["a-long-folder-name"] * 20) + "/file"
LONG_NAME: Final = LONG.encode()
ODD_NAMES: Final = (
    b"\xff\xfe",
    "\u00e9".encode(),
    "e\u0301".encode(),
    b"a\nb",
    b"a\\b",
    b"*",
    b"-rf",
    b" ",
    b"...",
    b"..a",
    b"~",
)


def sized(field: bytes) -> bytes:
    """A file of three bytes with this size field."""
    return header(b"f", size=field) + padded(b"abc")


def checksum_written(form: bytes) -> bytes:
    """A file whose checksum is written in this form."""
    block = file(b"f")
    return block[:148] + form % int(block[148:154], 8) + block[156:]


def with_mode(field: bytes) -> bytes:
    """A file with this mode field, its checksum made right."""
    block = file(b"f", b"x")
    changed = block[:100] + field + block[108:]
    total = sum(changed[:148]) + 8 * ord(" ") + sum(changed[156:BLOCK])
    return changed[:148] + octal(total, 7) + b" " + changed[156:]


PAX: Final = {
    "path": Oddity(pax({b"path": LONG_NAME}) + file(b"f", b"x"), nested(LONG, X)),
    "linkpath": Oddity(pax({b"linkpath": b"t" * 300}) + symlink(b"l", b"t"), {"l": Link("t" * 300)}),
    "linkpath of a hard link": Oddity(
        pax({b"path": LONG_NAME}) + file(b"f", b"x") + pax({b"linkpath": LONG_NAME}) + hardlink(b"h", b"f"),
        {**nested(LONG, X), "h": X},
    ),
    "size": Oddity(pax({b"size": b"3"}) + header(b"f") + padded(b"abc"), {"f": File(b"abc")}),
    "size with leading zeros": Oddity(pax({b"size": b"0003"}) + header(b"f") + padded(b"abc"), {"f": File(b"abc")}),
    "hdrcharset": Oddity(
        pax({b"hdrcharset": b"BINARY", b"path": b"\xff\xfe"}) + file(b"f", b"x"), {os.fsdecode(b"\xff\xfe"): X}
    ),
    "words that are not ours": Oddity(
        pax(
            {
                b"mtime": b"-1.5",
                b"uid": b"4294967295",
                b"SCHILY.xattr.user.x": b"a=b\0\n",
                b"LIBARCHIVE.creationtime": b"1",
            }
        )
        + file(b"f", b"x"),
        {"f": X},
    ),
    "two headers": Oddity(pax({b"path": b"g"}) + pax({b"mtime": b"1"}) + file(b"f", b"x"), {"g": X}),
    "global path": Oddity(pax({b"path": b"g"}, kind=b"g") + file(b"f", b"x"), {"g": X}),
    "git archive's global comment": Oddity(pax({b"comment": b"1" * 40}, kind=b"g") + file(b"f", b"x"), {"f": X}),
    "folder": Oddity(pax({b"path": b"d/e/"}) + directory(b"f"), nested("d/e", {})),
    "with a GNU name": Oddity(
        extension(b"L", LONG_NAME + b"\0") + pax({b"mtime": b"1"}) + file(b"f", b"x"), nested(LONG, X)
    ),
}

GNU_LONG: Final = {
    "name": Oddity(extension(b"L", LONG_NAME + b"\0") + file(b"f", b"x"), nested(LONG, X)),
    "name without a NUL": Oddity(extension(b"L", LONG_NAME) + file(b"f", b"x"), nested(LONG, X)),
    "name of a folder": Oddity(extension(b"L", LONG_NAME + b"/\0") + directory(b"f"), nested(LONG, {})),
    "target": Oddity(extension(b"K", b"t" * 300 + b"\0") + symlink(b"l", b"t"), {"l": Link("t" * 300)}),
    "target, then name": Oddity(
        extension(b"K", b"t" * 300 + b"\0") + extension(b"L", LONG_NAME + b"\0") + symlink(b"l", b"t"),
        nested(LONG, Link("t" * 300)),
    ),
    "name, then target": Oddity(
        extension(b"L", LONG_NAME + b"\0") + extension(b"K", b"t" * 300 + b"\0") + symlink(b"l", b"t"),
        nested(LONG, Link("t" * 300)),
    ),
    "name of exactly a block": Oddity(
        extension(b"L", b"n/" * 255 + b"n\0") + file(b"f", b"x"), nested("n/" * 255 + "n", X)
    ),
}

D_FG: Final[Mapping[str, Node]] = {"d": {"f": X, "g": X}}
FOLDERS: Final = {
    "./ before every name": Oddity(directory(b"./d/") + file(b"./d/f", b"x") + file(b"./d/g", b"x"), D_FG),
    "a leading ./": Oddity(directory(b"./") + file(b"./d/f", b"x") + file(b"./d/g", b"x"), D_FG),
    "a leading .": Oddity(directory(b".") + file(b"d/f", b"x") + file(b"d/g", b"x"), D_FG),
    "after their files": Oddity(file(b"d/g", b"x") + file(b"d/f", b"x") + directory(b"d/"), D_FG),
    "without members": Oddity(file(b"d/f", b"x") + file(b"d/g", b"x"), D_FG),
    "twice": Oddity(directory(b"d/") + file(b"d/f", b"x") + directory(b"d") + file(b"d/g", b"x"), D_FG),
    "slashes and dots inside": Oddity(file(b"d//f", b"x") + file(b"././d/./g", b"x"), D_FG),
    "empty": Oddity(directory(b"a/b") + directory(b"c") + file(b"f", b"x"), {"a": {"b": {}}, "c": {}, "f": X}),
    "all empty": Oddity(directory(b"a/b/c"), nested("a/b/c", {})),
    "between files that sort around them": Oddity(
        file(b"a0", b"x") + file(b"a/f", b"x") + file(b"a.b", b"x") + file(b"a-b/f", b"x") + file(b"a-b.c", b"x"),
        {"a0": X, "a": {"f": X}, "a.b": X, "a-b": {"f": X}, "a-b.c": X},
    ),
    "in turns": Oddity(
        file(b"b/z", b"x") + file(b"a/z", b"x") + file(b"b/a", b"x") + directory(b"a") + file(b"a/a", b"x"),
        {"b": {"z": X, "a": X}, "a": {"z": X, "a": X}},
    ),
}

LINKS: Final = {
    "hard": Oddity(file(b"f", b"x") + hardlink(b"h", b"f"), {"f": X, "h": X}),
    "hard, to an executable": Oddity(file(b"f", b"x", mode=0o755) + hardlink(b"h", b"./f"), {"f": RUN, "h": RUN}),
    "hard, in a chain": Oddity(
        file(b"d/f", b"x") + hardlink(b"g", b"d/f") + hardlink(b"d/h", b"g"), {"d": {"f": X, "h": X}, "g": X}
    ),
    "hard, to a symbolic one": Oddity(symlink(b"l", b"t") + hardlink(b"h", b"l"), {"l": Link("t"), "h": Link("t")}),
    "absolute": Oddity(symlink(b"l", b"/etc/passwd"), {"l": Link("/etc/passwd")}),
    "upwards": Oddity(symlink(b"l", b"../../t"), {"l": Link("../../t")}),
    "to itself": Oddity(symlink(b"l", b"l"), {"l": Link("l")}),
    "to a folder, with a slash": Oddity(symlink(b"l", b"d/") + directory(b"d"), {"l": Link("d/"), "d": {}}),
    "to a name not in UTF-8": Oddity(symlink(b"l", b"\xff"), {"l": Link(os.fsdecode(b"\xff"))}),
    "to all of the field": Oddity(symlink(b"l", b"t" * 100), {"l": Link("t" * 100)}),
    "executable or not": Oddity(header(b"l", kind=b"2", target=b"t", mode=0o777), {"l": Link("t")}),
}

FIELDS: Final = {
    "contiguous": Oddity(header(b"f", kind=b"7", size=3) + padded(b"abc"), {"f": File(b"abc")}),
    "size in base 256": Oddity(sized(b"\x80" + bytes(10) + b"\x03"), {"f": File(b"abc")}),
    "size behind spaces": Oddity(sized(b"          3 "), {"f": File(b"abc")}),
    "size before spaces": Oddity(sized(b"3           "), {"f": File(b"abc")}),
    "size before NULs": Oddity(sized(b"3".ljust(12, b"\0")), {"f": File(b"abc")}),
    "size in all of the field": Oddity(sized(b"000000000003"), {"f": File(b"abc")}),
    "size, then garbage": Oddity(sized(b"3\0garbage..."), {"f": File(b"abc")}),
    "no size": Oddity(header(b"f", size=bytes(12)), {"f": EMPTY}),
    "sizes around a block": Oddity(
        file(b"a", b"x" * 511) + file(b"b", b"x" * 512) + file(b"c", b"x" * 513),
        {"a": File(b"x" * 511), "b": File(b"x" * 512), "c": File(b"x" * 513)},
    ),
    "garbage as padding": Oddity(header(b"f", size=1) + b"x".ljust(BLOCK, b"?"), {"f": X}),
    "V7 file": Oddity(header(b"f", kind=b"\0", magic=V7, size=1) + padded(b"x"), {"f": X}),
    "V7 folder": Oddity(header(b"d/", kind=b"\0", magic=V7), {"d": {}}),
    "V7 link": Oddity(header(b"l", kind=b"2", magic=V7, target=b"t"), {"l": Link("t")}),
    "prefix": Oddity(header(b"name", prefix=b"pre/fix", size=1) + padded(b"x"), nested("pre/fix/name", X)),
    "prefix in all of the field": Oddity(
        header(b"n" * 100, prefix=b"p" * 77 + b"/" + b"q" * 77), nested(f"{'p' * 77}/{'q' * 77}/{'n' * 100}", EMPTY)
    ),
    "prefix of a folder": Oddity(header(b"d/", kind=b"5", prefix=b"p"), nested("p/d", {})),
    "GNU has times where others have a prefix": Oddity(header(b"f", prefix=b"12345", magic=GNU), {"f": EMPTY}),
    "checksum of signed bytes": Oddity(header(b"\xfc", signed=True), {os.fsdecode(b"\xfc"): EMPTY}),
    "checksum of seven digits": Oddity(checksum_written(b"%07o\0"), {"f": EMPTY}),
    "checksum behind spaces": Oddity(checksum_written(b"%6o\0 "), {"f": EMPTY}),
}

MODES: Final = {
    "owner only": Oddity(file(b"f", b"x", mode=0o100), {"f": RUN}),
    "all": Oddity(file(b"f", b"x", mode=0o777), {"f": RUN}),
    "set user id": Oddity(file(b"f", b"x", mode=0o4755), {"f": RUN}),
    "with the type of the file": Oddity(file(b"f", b"x", mode=0o100755), {"f": RUN}),
    "all but the owner": Oddity(file(b"f", b"x", mode=0o677), {"f": X}),
    "none": Oddity(file(b"f", b"x", mode=0), {"f": X}),
    "spaces": Oddity(with_mode(b"   755 \0"), {"f": RUN}),
    "base 256": Oddity(with_mode(b"\x80" + bytes(5) + b"\x01\xed"), {"f": RUN}),
    "no mode": Oddity(with_mode(bytes(8)), {"f": X}),
}

NAMES: Final = {
    "odd ones": Oddity(b"".join(file(name, b"x") for name in ODD_NAMES), {os.fsdecode(name): X for name in ODD_NAMES}),
    "as long as the field": Oddity(file(b"n" * 100), {"n" * 100: EMPTY}),
    "as long as a file system allows": Oddity(
        extension(b"L", b"n" * 255 + b"/" + b"m" * 255 + b"\0") + file(b"f"), nested("n" * 255 + "/" + "m" * 255, EMPTY)
    ),
    "none at all": Oddity(b"", {}),
}

MEMBERS: Final[Mapping[str, Oddity]] = {
    f"{group}: {name}": oddity
    for group, oddities in {
        "pax": PAX,
        "GNU long": GNU_LONG,
        "folders": FOLDERS,
        "links": LINKS,
        "fields": FIELDS,
        "modes": MODES,
        "names": NAMES,
    }.items()
    for name, oddity in oddities.items()
}

"""A second reader of tarballs, slow and plain, to hold against the first: whole archives in, a tree of values out.

It shares no code and no idea with ``tarballs.stream``: it has all bytes at hand, counts positions, and builds nested
dictionaries. It knows the same rules (docs/decisions/006-what-a-tarball-may-be.md) and no limits.
"""

from __future__ import annotations

import os
import re
import zlib
from typing import TYPE_CHECKING

from tests.unit.trees import File, Link, Node

if TYPE_CHECKING:
    from collections.abc import Mapping

SIGNED = [byte - 256 if byte > 127 else byte for byte in range(256)]


class UnreadableError(Exception):
    """The slow reader refuses these bytes."""


def demand(condition: object, complaint: str) -> None:
    if not condition:
        raise UnreadableError(complaint)


def gunzip(packed: bytes) -> bytes:
    unpacked = b""
    while True:
        member = zlib.decompressobj(31)
        try:
            unpacked += member.decompress(packed)
        except zlib.error as error:
            raise UnreadableError(str(error)) from error
        demand(member.eof, "gzip is cut")
        packed = member.unused_data
        if packed[:1] in (b"", b"\0"):
            demand(packed == bytes(len(packed)), "something after gzip")
            return unpacked


def read_tree(archive: bytes) -> dict[str, Node]:
    """Return the tree that the archive unpacks to; raise UnreadableError."""
    tree: dict[str, Node] = {}
    everywhere: dict[str, bytes] = {}
    here: dict[str, bytes] = {}
    position = 0
    while archive[position:].strip(b"\0") or (len(archive) - position < 512 and position < len(archive)):
        blocks, stored_size = take_header(archive, position)
        kind = blocks[156:157].decode("latin-1")
        position += len(blocks)
        if kind in "xgLK":
            (everywhere if kind == "g" else here).update(words_of(kind, take(archive, position, stored_size)))
        else:
            words = {**everywhere, **here}
            here = {}
            stored_size = int(words.get("size", stored_size))
            add(tree, kind, blocks, words, take(archive, position, stored_size))
        position += -(-stored_size // 512) * 512
        demand(position <= len(archive), "padding is cut")
    demand(not here, "an extension without its member")
    return tree


def take_header(archive: bytes, position: int) -> tuple[bytes, int]:
    """Return the header, with all blocks of an old map of a sparse file, and the size of what it says is stored."""
    blocks = take(archive, position, 512)
    check_sum(blocks)
    number(blocks[100:108])  # a mode is one in every header
    while blocks[156:157] == b"S" and blocks[482 if len(blocks) == 512 else len(blocks) - 8]:
        blocks += take(archive, position + len(blocks), 512)
    return blocks, number(blocks[124:136])


def take(archive: bytes, position: int, size: int) -> bytes:
    demand(position + size <= len(archive), "content is cut")
    return archive[position : position + size]


def check_sum(block: bytes) -> None:
    blanked = block[:148] + b" " * 8 + block[156:]
    demand(number(block[148:156]) in (sum(blanked), sum(SIGNED[byte] for byte in blanked)), "checksum")


def number(field: bytes) -> int:
    if field[0] == 128:
        total = 0
        for byte in field[1:]:
            total = total * 256 + byte
        return total
    text = re.fullmatch(rb" *([0-7]*) *", field.split(b"\0")[0])
    if text is None:
        raise UnreadableError("octal")
    return int(text[1], 8) if text[1] else 0


def decimal(word: bytes) -> int:
    demand(word and len(word) <= 20 and all(byte in b"0123456789" for byte in word), "decimal")
    return int(word)


def words_of(kind: str, payload: bytes) -> dict[str, bytes]:
    if kind in "LK":
        while payload.endswith(b"\0"):
            payload = payload[:-1]
        return {"path" if kind == "L" else "linkpath": payload}
    words: dict[str, bytes] = {}
    sparse: list[bytes] = []
    while payload:
        length, space, _ = payload.partition(b" ")
        demand(space and 1 <= len(length) <= 7 and length.isdigit(), "pax length")
        demand(0 < int(length) <= len(payload), "pax length")
        record, payload = payload[: int(length)], payload[int(length) :]
        demand(record.endswith(b"\n") and b"=" in record[len(length) + 1 : -1], "pax record")
        key, _, word = record[len(length) + 1 : -1].partition(b"=")
        demand(key, "pax key")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            sparse.append(word)
        elif key in (b"path", b"linkpath", b"size") or key.startswith(b"GNU.sparse."):
            words[key.decode("latin-1")] = word
            demand(key != b"size" or decimal(word) >= 0, "pax size")
    return {**words, "GNU.sparse.map": b",".join(sparse)} if sparse else words


def add(tree: dict[str, Node], kind: str, blocks: bytes, words: Mapping[str, bytes], stored: bytes) -> None:
    name, target = blocks[:100].split(b"\0")[0], blocks[157:257].split(b"\0")[0]
    if blocks[257:263] == b"ustar\0" and blocks[345]:
        name = blocks[345:500].split(b"\0")[0] + b"/" + name
    name = words.get("GNU.sparse.name", words.get("path", name))
    target = words.get("linkpath", target)
    folder_like = name == b"" or name.endswith(b"/") or name.split(b"/")[-1] == b"."
    if kind == "5" or (kind == "\0" and folder_like):
        demand(not stored, "folder with content")
        folder(tree, parts_of(name))
        return
    demand(kind in "\x000127S" and not folder_like, "type, or a file named like a folder")
    if kind in "12":
        demand(not stored, "link with content")
    *above, last = parts_of(name)
    node = linked(tree, kind, target) if kind in "12" else file_of(kind, blocks, words, stored)
    entries = folder(tree, above)
    demand(last not in entries, "twice")
    entries[last] = node


def linked(tree: dict[str, Node], kind: str, target: bytes) -> Node:
    if kind == "2":
        check_name(target)
        return Link(os.fsdecode(target))
    node: Node | None = tree
    for part in parts_of(target):
        node = node.get(part) if isinstance(node, dict) else None
    if not isinstance(node, File | Link):
        raise UnreadableError("hard link to no file")
    return node


def file_of(kind: str, blocks: bytes, words: Mapping[str, bytes], stored: bytes) -> File:
    mode = number(blocks[100:108])
    return File(with_holes(kind, blocks, words, stored), executable=mode // 64 % 2 == 1)


def with_holes(kind: str, blocks: bytes, words: Mapping[str, bytes], stored: bytes) -> bytes:
    if kind == "S":
        fields = blocks[386:482] + b"".join(blocks[at : at + 504] for at in range(512, len(blocks), 512))
        while fields.endswith(b"\0"):
            fields = fields[:-1]
        numbers = [number(fields[at : at + 12].ljust(12, b"\0")) for at in range(0, len(fields), 12)]
        return spread(numbers, number(blocks[483:495]), stored)
    if not any(word.startswith("GNU.sparse.") for word in words):
        return stored
    major, minor = words.get("GNU.sparse.major", b"0"), words.get("GNU.sparse.minor", b"0")
    if (major, minor) == (b"1", b"0"):
        first, newline, rest = stored.partition(b"\n")
        demand(newline, "no map")
        lines = rest.split(b"\n", 2 * decimal(first)) if decimal(first) < len(stored) else []
        demand(len(lines) == 2 * decimal(first) + 1, "a map that is cut")
        map_size = len(stored) - len(lines[-1])
        end = -(-map_size // 512) * 512
        demand(end <= len(stored) and not stored[map_size:end].strip(b"\0"), "padding of a map")
        numbers = [decimal(line) for line in lines[:-1]]
        return spread(numbers, decimal(words.get("GNU.sparse.realsize", b"")), stored[end:])
    demand(major == b"0", "sparse version")
    text = words.get("GNU.sparse.map", b"")
    numbers = [decimal(word) for word in text.split(b",")]
    return spread(numbers, decimal(words.get("GNU.sparse.size", b"")), stored)


def spread(numbers: list[int], size: int, stored: bytes) -> bytes:
    demand(len(numbers) % 2 == 0 and size <= 1 << 30, "sparse map")
    content = b""
    while numbers:
        offset, length, *numbers = numbers
        demand(len(content) <= offset <= offset + length <= size and length <= len(stored), "sparse map")
        demand(length % 512 == 0 or not any(numbers[1::2]), "half a block, and not the last")
        content = content.ljust(offset, b"\0") + stored[:length]
        stored = stored[length:]
    demand(not stored and len(content) == size, "more than the map says, or less")
    return content


def check_name(name: bytes) -> None:
    demand(name and b"\0" not in name and len(name) <= 4096, "name")


def parts_of(name: bytes) -> list[str]:
    check_name(name)
    parts = [part for part in name.split(b"/") if part and part != b"."]
    demand(name[0] != ord("/") and b".." not in parts, "out of the tree")
    return [os.fsdecode(part) for part in parts]


def folder(tree: dict[str, Node], parts: list[str]) -> dict[str, Node]:
    for part in parts:
        node = tree.setdefault(part, {})
        if not isinstance(node, dict):
            raise UnreadableError("a folder and a file")
        tree = node
    return tree

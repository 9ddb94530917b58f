"""The parsers of text once more, slow and plain and without regular expressions, to hold against the real ones."""

from __future__ import annotations

from typing import Literal

HEX = frozenset("0123456789abcdef")
DIGITS = frozenset("0123456789")


def chosen_positions(header: str, size: int) -> range | Literal["unsatisfiable"] | None:
    """What ``parse_range`` decides, by slicing: None for all, since the header is to be ignored."""
    text = header.strip(" \t")
    first, dash, last = (part.strip(" ") for part in text[6:].partition("-"))
    readable = all(len(number) <= 18 and DIGITS.issuperset(number) for number in (first, last))
    if text[:6].lower() != "bytes=" or not text.isascii() or not dash or not readable or not first + last:
        return None
    if first:
        chosen = range(size)[int(first) : int(last) + 1 if last else None]
    else:
        chosen = range(size)[-int(last) :] if int(last) else range(0)
    return chosen or "unsatisfiable"


def names(path: str) -> tuple[str, str | None, str] | None:
    """Kind, uuid and hash of a resource's path, as ``Resource.parse`` has them."""
    empty, *segments = path.split("/")
    if empty or not segments or not is_hex(segments[-1], 40):
        return None
    if segments[:-1] == ["artifact"]:
        return "artifact", None, segments[-1]
    if len(segments) != 3 or segments[0] not in {"registry", "package"}:
        return None
    groups = segments[1].split("-")
    wanted = (8, 4, 4, 4, 12)
    if len(groups) != len(wanted) or not all(map(is_hex, groups, wanted)):
        return None
    return segments[0], segments[1], segments[2]


def is_hex(text: str, length: int) -> bool:
    return len(text) == length and HEX.issuperset(text)


def listed(body: bytes) -> tuple[dict[str, str], int]:
    """Heads by uuid, and how many lines are malformed, as ``parse_listing`` has them."""
    lines = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    named = [names(line.decode("latin-1")) for line in lines if line.strip()]
    registries = [name for name in named if name and name[0] == "registry"]
    uuids = [uuid for _, uuid, _ in registries]
    heads = {uuid: tree_hash for _, uuid, tree_hash in registries if uuid and uuids.count(uuid) == 1}
    return heads, len(named) - len(heads)

"""The `Forwarded` header (RFC 7239): which address each proxy has seen. Pure.

It is read by its grammar and no looser: a quotation mark that a client leaves open must not hide what a proxy appends.
"""

from __future__ import annotations

import re
from typing import Final

#: No request comes through so many; and each takes time.
MAX_HOPS: Final = 64
# Possessive throughout: whatever is sent is read in linear time.
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED = r'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
_PAIR = rf"({_WORD})=({_WORD}|{_QUOTED})"
_PAIRS = re.compile(_PAIR)
_ELEMENT = re.compile(rf"[ \t]*+((?:{_PAIR})?+(?:;(?:{_PAIR})?+)*+)[ \t]*+(,|\Z)")
#: A node that has an address; the others are `unknown` and what begins with `_` (RFC 7239, 6).
_NODE = re.compile(r"(?:([0-9.]+)|\[([0-9A-Fa-f:.]+)\])(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?")


def forwarded_for(line: str) -> list[str]:
    """Return the address in `for` of every element of one header line, the nearest hop last, without brackets and port.

    It is empty where an element has none, or more than one. A line against the grammar is one such element, and so
    is one of more than `MAX_HOPS` elements.
    """
    addresses: list[str] = []
    position, more = 0, ","
    while more:
        element = _ELEMENT.match(line, position)
        if element is None or len(addresses) == MAX_HOPS:
            return [""]
        addresses.append(_address(element[1]))
        position, more = element.end(), element[_ELEMENT.groups]
    return addresses


def _address(element: str) -> str:
    nodes = [value for name, value in _PAIRS.findall(element) if name.lower() == "for"]
    if len(nodes) != 1:
        return ""
    node = _NODE.fullmatch(re.sub(r"\\(.)", r"\1", nodes[0][1:-1]) if nodes[0].startswith('"') else nodes[0])
    return (node[1] or node[2]) if node else ""

"""The hits that nginx served, read from the lines of its log (docs/operating.md). Pure.

    log_format pkgserver_hits '$msec $status $body_bytes_sent $request_method $uri';

A client chooses the method and the path only. The method is a word to nginx, or it refuses the request; the path is the
last field and counts only where it is that of a resource, whole. So no client can write a line that says more than what
nginx did. (With `escape=none` a client could write line breaks; nginx's own default escapes them.)
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pkgserver_trio.resource import Resource

# Twelve digits of seconds are 30,000 years, eighteen of bytes an exbibyte: more is no time and no size.
_LINE = re.compile(rb"([0-9]{1,12})\.([0-9]{3}) ([0-9]{3}) ([0-9]{1,18}) ([^ ]+) (.+)")
#: A resource was served: whole, in part, or as one that the client has already.
_SERVED = frozenset({b"200", b"206", b"304"})
_NS_PER_MS = 1_000_000


class Hit(NamedTuple):
    """A resource that nginx served: the size of the answer's body in bytes, its end in ns since the epoch."""

    resource: Resource
    size_bytes: int
    time_ns: int


class Harvest(NamedTuple):
    """What some lines of a log hold: hits, lines that are no hits, and what is no line of such a log."""

    hits: list[Hit]
    others: int
    garbage: list[bytes]


def parse_hits(lines: bytes) -> Harvest:
    """Return what whole lines say; each ends in a line feed."""
    hits: list[Hit] = []
    garbage: list[bytes] = []
    others = 0
    for line in lines.split(b"\n")[:-1]:
        match = _LINE.fullmatch(line)
        if match is None:
            garbage.append(line)
            continue
        seconds, milliseconds, status, size, method, path = match.groups()
        served = method == b"GET" and status in _SERVED
        resource = Resource.parse(path.decode("latin-1")) if served else None
        if resource is None:
            others += 1
        else:
            hits.append(Hit(resource, int(size), int(seconds + milliseconds) * _NS_PER_MS))
    return Harvest(hits, others, garbage)

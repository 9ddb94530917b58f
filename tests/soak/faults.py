"""The faults of storage servers, by kind: each makes a bad answer, or a strange one, out of a good one. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tests.behaviours import MISSING, Behaviour, Pieces, redirect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

    from tests.soak.catalogue import Catalogue

    Fault = Callable[[Random, Catalogue, Behaviour], Behaviour]

#: Marks a path that leads to itself for ever.
LOOP: Final = "?again"
_PAGE: Final = b"<!DOCTYPE html><title>Sign in</title><p>This network wants you to sign in first.\n"


def _with_status(status: int) -> Fault:
    return lambda _random, _catalogue, _good: Behaviour(status=status)


def _somewhere(random: Random, good: Behaviour) -> int:
    """Return an offset of the body: its start, its last byte, or one between."""
    last = max(len(good.body) - 1, 0)
    return random.choice((0, last, random.randint(0, last)))


def _flipped(random: Random, body: bytes, start: int, stop: int) -> bytes:
    """Return the body with one wrong byte, somewhere from ``start`` on, before ``stop``."""
    at = random.randrange(start, stop)
    return body[:at] + bytes([body[at] ^ random.randint(1, 255)]) + body[at + 1 :]


def _damaged(random: Random, body: bytes) -> bytes:
    """Return a tarball with a wrong byte and a wrong check sum; some bytes of gzip's own mean nothing to the tree."""
    size = len(body)
    return _flipped(random, _flipped(random, body, 0, size - 8), size - 8, size - 4)


def _wrong_length(random: Random, good: Behaviour) -> Behaviour:
    return replace(good, declared_length=max(len(good.body) + random.choice((-100, -1, 1, 100)), 0))


def _trickle(random: Random, good: Behaviour) -> Behaviour:
    return replace(good, pieces=Pieces(size=len(good.body) // random.randint(2, 8) + 1, pause=0.3))


# At a HEAD, and at a GET, of a resource.
_ANY: Final[Mapping[str, Fault]] = {
    "404": lambda _r, _c, _g: MISSING,
    "500": _with_status(500),
    "503": _with_status(503),
    "silent": lambda _r, _c, good: replace(good, never_answer=True),
    "slow head": lambda random, _c, good: replace(good, delay_before_head=random.uniform(0.1, 2.5)),
    "wrong length": lambda random, _c, good: _wrong_length(random, good),
    "redirect loop": lambda _r, _c, _g: redirect(LOOP),
    "chunked": lambda _r, _c, good: replace(good, declared_length=None),
    "reset before head": lambda _r, _c, good: replace(good, reset_at=-1),
    "FIN before head": lambda _r, _c, good: replace(good, close_at=-1),
}
HEAD_FAULTS: Final[Mapping[str, Fault]] = {
    **_ANY,
    "HEAD refused": lambda random, _c, _g: Behaviour(status=random.choice((405, 501))),
}
#: The faults at the body of a list of registries.
LISTING_FAULTS: Final[Mapping[str, Fault]] = {
    **_ANY,
    "stall": lambda random, _c, good: replace(good, stall_at=_somewhere(random, good)),
    "reset": lambda random, _c, good: replace(good, reset_at=_somewhere(random, good)),
    "FIN": lambda random, _c, good: replace(good, close_at=_somewhere(random, good)),
    "damaged": lambda random, _c, good: replace(good, body=_flipped(random, good.body, 0, len(good.body)), etag=None),
    "garbage after": lambda random, _c, good: replace(good, body=good.body + random.randbytes(20), etag=None),
    "HTML": lambda _r, _c, _g: Behaviour(body=_PAGE),
    "empty": lambda _r, _c, _g: Behaviour(),
    "trickle": lambda random, _c, good: _trickle(random, good),
}
GET_FAULTS: Final[Mapping[str, Fault]] = {
    **LISTING_FAULTS,
    "another tree": lambda random, catalogue, _g: random.choice(random.choice(catalogue.tarballs).answers),
    "damaged": lambda random, _c, good: replace(good, body=_damaged(random, good.body), etag=None),
    "same tag, damaged": lambda random, _c, good: replace(good, body=_damaged(random, good.body)),
    "no ranges": lambda _r, _c, good: replace(good, ranges=False, etag=None),
    "bomb": lambda _r, catalogue, _g: Behaviour(body=catalogue.bomb),
}


def faults_at(method: str, *, listing: bool) -> Mapping[str, Fault]:
    """Return the faults that can befall such a request, by kind."""
    if method == "HEAD":
        return HEAD_FAULTS
    return LISTING_FAULTS if listing else GET_FAULTS

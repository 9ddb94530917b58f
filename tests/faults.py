"""The ways in which a storage server fails, as a table: with the resource that all tests of them want."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field

from tests.fakes import BEFORE_HEAD, Behaviour, Pieces, good, redirect
from tests.lofts import tarball
from tests.unit.tarballs import END, file, gzipped

WANTED = tarball("wanted", 40_000)
BODY = WANTED.body
SIZE = WANTED.size
HALF = SIZE // 2
OTHER = tarball("other", 40_000).body
SLOW = Pieces(size=4096, pause=0.1)  # readers take their bytes while more of them come


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """How a server answers GET, and HEAD where that is not as if all were well; what readers notice of it."""

    get: Behaviour
    head: Behaviour = field(default_factory=lambda: good(BODY))
    noticed: bool = False  # by a reader whom another server serves afterwards: it has bytes that are wrong


def everywhere(behaviour: Behaviour) -> Fault:
    return Fault(get=behaviour, head=behaviour)


def sent(body: bytes = BODY, **how: object) -> Behaviour:
    return Behaviour(body=body, pieces=SLOW, **how)  # type: ignore[arg-type] # each row is checked where it is played


def flipped(at: int) -> bytes:
    return BODY[:at] + bytes([BODY[at] ^ 0xFF]) + BODY[at + 1 :]


FAULTS = {
    "404": everywhere(Behaviour(status=404)),
    "404 to GET only": Fault(get=Behaviour(status=404)),
    "500": everywhere(Behaviour(status=500)),
    "503": everywhere(Behaviour(status=503)),
    "HEAD 200, then GET 500": Fault(get=Behaviour(status=500)),
    "stall before every head": everywhere(Behaviour(never_answer=True)),
    "stall before the head": Fault(get=Behaviour(never_answer=True)),
    "connection that hangs": everywhere(Behaviour(connect="hang")),
    "stall at the first byte": Fault(get=sent(stall_at=0)),
    "stall in the body": Fault(get=sent(stall_at=HALF)),
    "stall in the chunked body": Fault(get=sent(stall_at=HALF, declared_length=None)),
    "stall one byte before the end": Fault(get=sent(stall_at=SIZE - 1)),
    "FIN before the head": Fault(get=Behaviour(close_at=BEFORE_HEAD)),
    "FIN at the first byte": Fault(get=sent(close_at=0)),
    "FIN in the middle": Fault(get=sent(close_at=HALF)),
    "FIN in the middle, chunked": Fault(get=sent(close_at=HALF, declared_length=None)),
    "FIN one byte before the end": Fault(get=sent(close_at=SIZE - 1)),
    "RST before the head": Fault(get=Behaviour(reset_at=BEFORE_HEAD)),
    "RST at the first byte": Fault(get=sent(reset_at=0)),
    "RST in the middle": Fault(get=sent(reset_at=HALF)),
    "RST one byte before the end": Fault(get=sent(reset_at=SIZE - 1)),
    "length longer than what is sent": Fault(get=sent(declared_length=SIZE + 1), noticed=True),
    "length shorter than what is sent": Fault(get=sent(declared_length=SIZE - 1), noticed=True),
    "half of it, said to be all": Fault(get=sent(BODY[:HALF]), noticed=True),
    "half of it, chunked": Fault(get=sent(BODY[:HALF], declared_length=None)),
    "all but a byte, chunked": Fault(get=sent(BODY[:-1], declared_length=None)),
    "another tree": Fault(get=sent(OTHER), noticed=True),
    "another tree, chunked": Fault(get=sent(OTHER, declared_length=None), noticed=True),
    "damaged gzip": Fault(get=sent(flipped(HALF)), noticed=True),
    "wrong checksum": Fault(get=sent(BODY[:-8] + b"\xff" * 8), noticed=True),
    "trailing garbage": Fault(get=sent(BODY + b"garbage"), noticed=True),
    "empty body": Fault(get=Behaviour()),
    "empty body, chunked": Fault(get=Behaviour(declared_length=None)),
    "empty gzip": Fault(get=Behaviour(body=gzip.compress(b"", mtime=0)), noticed=True),
    "HTML": Fault(get=Behaviour(body=b"<html>It works!</html>", headers={"content-type": "text/html"}), noticed=True),
    "gzip bomb": Fault(get=sent(gzipped(file(b"bomb", bytes(9_000_000)) + END)), noticed=True),
    "slow trickle": Fault(get=Behaviour(body=BODY, pieces=Pieces(size=1, pause=0.5))),
    "redirect loop": everywhere(redirect(WANTED.path)),
    "redirect to GET only": Fault(get=redirect(WANTED.path)),
    "redirect to nowhere": everywhere(redirect("http://nobody.invalid/")),
    "connection refused": everywhere(Behaviour(connect="refuse")),
    "no content": everywhere(Behaviour(status=204)),
    "a part, unasked": Fault(get=Behaviour(status=206, body=BODY[:HALF])),
    "unknown coding": Fault(get=sent(b"(" + BODY, headers={"content-encoding": "br"}), noticed=True),
    "damaged coding": Fault(get=sent(gzip.compress(BODY, mtime=0)[:-9], headers={"content-encoding": "gzip"})),
}

"""The language in which tests say how a server answers; ``tests.fakes`` speaks it.

1. A ``Behaviour`` is one answer, good or bad, as a value; ``steps`` turns it into a small program to be played.
2. ``stall_at``, ``reset_at`` and ``close_at`` count body bytes of the answer as sent: a 206 has its own, a HEAD none.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from functools import partial
from typing import Literal, Self

import trio

BEFORE_HEAD = -1  # an offset: not even a status line


class Signal(Enum):
    BODY_END = auto()  # what follows is no part of the answer
    CLOSE = auto()
    RESET = auto()


@dataclass(frozen=True, slots=True)
class Head:
    status: int
    headers: Mapping[str, str]
    length: int | None  # of the body that a client waits for; None: until the last chunk

    def encode(self) -> bytes:
        lines = (f"{name}: {value}\r\n" for name, value in self.headers.items())
        return f"HTTP/1.1 {self.status} \r\n{''.join(lines)}\r\n".encode("latin-1")


Step = Head | bytes | Signal | Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Request:
    """What arrived: ``path`` with its query, ``headers`` by lower-case name, ``time`` by trio's clock."""

    method: str
    path: str
    headers: Mapping[str, str]
    time: float

    @classmethod
    def parse(cls, head: bytes, time: float) -> Self:
        """Read a request head as it is on the wire, its last blank line included."""
        first, *lines = head.decode("latin-1").splitlines()
        method, path, _ = first.split(" ")
        fields = (line.partition(":") for line in lines if line)
        return cls(method, path, {name.lower(): value.strip() for name, _, value in fields}, time)


@dataclass(frozen=True, slots=True)
class Pieces:
    """A body in pieces of ``size`` bytes; each but the first waits for ``release``, then for ``pause`` seconds."""

    size: int
    pause: float = 0
    release: trio.Event | None = None

    async def between(self) -> None:
        if self.release is not None:
            await self.release.wait()
        await trio.sleep(self.pause)


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """One answer. ``headers`` (lower-case) override; a ``declared_length`` may lie, and None means chunked.

    ``delay_before_head`` is seconds. A 200 honours If-None-Match where there is an ``etag``, and a Range, with its
    If-Range, unless ``ranges`` is false.

    A body that its length denies, or that ``garbage`` follows, ends with its connection. A client may miss bytes that a
    reset overtakes. ``connect`` is for ``FakeTransport`` only: what has accepted cannot refuse (see ``refusing_url``).
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    etag: str | None = None
    ranges: bool = True
    declared_length: int | Literal["true"] | None = "true"
    delay_before_head: float = 0
    never_answer: bool = False
    pieces: Pieces | None = None
    stall_at: int | None = None
    reset_at: int | None = None
    close_at: int | None = None
    garbage: bytes = b""
    connect: Literal["accept", "refuse", "hang"] = "accept"

    def steps(self, request: Request) -> Iterator[Step]:
        """Yield the program that answers ``request``."""
        answer = self._facing(request)
        end, ending = answer._ending()
        yield trio.sleep_forever if self.never_answer else partial(trio.sleep, self.delay_before_head)
        if end != BEFORE_HEAD:
            bodiless = request.method == "HEAD" or answer.status in {204, 304}
            yield answer._head(bodiless=bodiless, last=ending != (Signal.BODY_END,))
            if bodiless:
                return
            yield from answer._body_until(end)
        yield from ending

    def _facing(self, request: Request) -> Behaviour:
        """Return this as the request's conditions and Range leave it (RFC 9110)."""
        if self.status != 200:
            return self
        if self.etag is not None and request.headers.get("if-none-match") == self.etag:
            return replace(self, status=304)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", "")) if self.ranges else None
        if wanted is None or request.headers.get("if-range", self.etag) != self.etag:
            return self
        size, start = len(self.body), int(wanted[1])
        stop = min(size, int(wanted[2] or size) + 1)
        if start >= stop:
            return replace(self, status=416, body=b"", headers={**self.headers, "content-range": f"bytes */{size}"})
        headers = {**self.headers, "content-range": f"bytes {start}-{stop - 1}/{size}"}
        return replace(self, status=206, body=self.body[start:stop], headers=headers)

    def _head(self, *, bodiless: bool, last: bool) -> Head:
        length = len(self.body) if self.declared_length == "true" else self.declared_length
        framing = {"transfer-encoding": "chunked"} if length is None else {"content-length": str(length)}
        tag = {} if self.etag is None else {"etag": self.etag}
        # Announced, or a client's next request on this connection would race with its end.
        closing = {"connection": "close"} if last else {}
        return Head(self.status, {**framing, **tag, **closing, **self.headers}, 0 if bodiless else length)

    def _body_until(self, end: int) -> Iterator[Step]:
        pieces = self.pieces or Pieces(size=max(len(self.body), 1))
        for start in range(0, min(end, len(self.body)), pieces.size):
            if start:
                yield pieces.between
            yield self.body[start : min(start + pieces.size, end)]

    def _ending(self) -> tuple[int, tuple[Step, ...]]:
        """Return after how many body bytes the ending begins, and its steps: the earliest fault's, or a good one's."""
        honest = self.declared_length in {"true", None, len(self.body)} and not self.garbage
        good = (Signal.BODY_END,) if honest else (Signal.BODY_END, self.garbage, Signal.CLOSE)
        faults = ((self.stall_at, trio.sleep_forever), (self.reset_at, Signal.RESET), (self.close_at, Signal.CLOSE))
        endings: list[tuple[int, tuple[Step, ...]]] = [(at, (step,)) for at, step in faults if at is not None]
        return min(endings, key=lambda ending: ending[0], default=(len(self.body), good))


MISSING = Behaviour(status=404)
Script = Callable[[Request], Behaviour | None] | Mapping[tuple[str, str], Behaviour | Sequence[Behaviour]]


def choose(request: Request, turn: int, script: Script, files: Mapping[str, bytes]) -> Behaviour:
    """Return what answers the ``turn``-th such request: the script's word, else a file, else 404.

    In a mapping script, keyed by method and path, a sequence is answered in turn, its last for ever.
    """
    word = script.get((request.method, request.path)) if isinstance(script, Mapping) else script(request)
    if isinstance(word, Sequence):
        return word[min(turn, len(word)) - 1]
    if word is not None:
        return word
    return good(files[request.path]) if request.path in files else MISSING


def strong_etag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()}"'


def good(body: bytes) -> Behaviour:
    return Behaviour(body=body, etag=strong_etag(body))


def redirect(url: str) -> Behaviour:
    return Behaviour(status=302, headers={"location": url})

"""What a client asks, and what it may be told: values, and the dice that make them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.soak.catalogue import FLAVORS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from random import Random

    from tests.soak.catalogue import Catalogue, Tarball

PAGES: Final = ("/", "/healthz", "/readyz", "/robots.txt")
_MAX_KEPT: Final = 50


class Span(NamedTuple):
    """A range as a client writes it: ``first`` None is a suffix of ``last`` bytes, ``last`` None is to the end."""

    first: int | None
    last: int | None

    def __str__(self) -> str:
        return f"bytes={'' if self.first is None else self.first}-{'' if self.last is None else self.last}"

    def offsets(self, size: int) -> tuple[int, int]:
        """Return the first offset and the one after the last, for a body of ``size`` bytes."""
        if self.first is None:
            return max(size - (self.last or 0), 0), size
        return self.first, size if self.last is None else min(self.last + 1, size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request, and the statuses that are right for it when it is not refused.

    ``prefix`` is what the client has of the body already, and wants to go on from.
    """

    path: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    expected: frozenset[int] = frozenset({200})
    span: Span | None = None
    prefix: bytes = b""

    def __str__(self) -> str:
        fields = "".join(f", {name}: {word}" for name, word in self.headers.items())
        return f"{self.method} {self.path}{fields}"


@dataclass(frozen=True, slots=True)
class Conduct:
    """How a client takes its answer: it may leave after some bytes of body (0: before the head), or pause between them.

    ``pauses`` are seconds before each piece; after the last of them there are no more.
    """

    leaves_after: int | None = None
    pauses: tuple[float, ...] = ()


class Planner:
    """The dice of one client, and what it remembers: the tags of what it got."""

    def __init__(self, random: Random, catalogue: Catalogue, heads: Callable[[], Sequence[Tarball]]) -> None:
        self._random, self._catalogue, self._heads = random, catalogue, heads
        self._tags: dict[str, str] = {}

    def remember(self, path: str, etag: str) -> None:
        """Remember the tag of a complete answer; the oldest makes room."""
        self._tags[path] = etag
        if len(self._tags) > _MAX_KEPT:
            del self._tags[next(iter(self._tags))]

    def next_ask(self) -> Ask:
        """Return what the client asks next."""
        kinds: dict[Callable[[], Ask], int] = {
            lambda: Ask(path=self._tarball().path): 40,
            lambda: Ask(path=self._tarball().path, method="HEAD"): 10,
            lambda: Ask(path=self._random.choice(PAGES)): 2,
            self._ranged: 20,
            self._conditional: 8,
            self._artifact_toml: 5,
            self._absent: 5,
            self._listing: 10,
        }
        return self._random.choices(list(kinds), list(kinds.values()))[0]()

    def next_conduct(self) -> Conduct:
        """Return how the client takes its next answer: mostly as it comes."""
        dice = self._random.random()
        if dice < 0.12:
            return Conduct(leaves_after=int(self._random.expovariate(1 / 50_000)))
        if dice < 0.14:
            return Conduct(leaves_after=0)
        if dice < 0.20:
            return Conduct(pauses=(self._random.uniform(0.05, 0.2),) * self._random.randint(2, 10))
        if dice < 0.21:
            return Conduct(pauses=(0, 0, 5))
        return Conduct()

    def resume(self, path: str, prefix: bytes, etag: str) -> Ask:
        """Return how a client asks for the rest of an answer that broke off."""
        span = Span(len(prefix), None)
        headers = {"Range": str(span), "If-Range": etag}
        return Ask(path=path, headers=headers, expected=frozenset({200, 206}), span=span, prefix=prefix)

    def _tarball(self) -> Tarball:
        if self._random.random() < 0.05:
            return self._random.choice(self._heads())
        tarballs = self._catalogue.tarballs
        return tarballs[int(len(tarballs) * self._random.random() ** 3)]  # a few are asked for far more than the others

    def _ranged(self) -> Ask:
        tarball, random = self._tarball(), self._random
        size = tarball.smallest
        first = random.randrange(size)
        span = random.choice((Span(first, random.randrange(first, size)), Span(first, None), Span(None, first + 1)))
        past = f"bytes={max(map(len, tarball.bodies))}-"
        ignored = random.choice((f"bytes=0-0,{first}-", "bytes=x-y", "lines=1-2"))
        text, status = random.choices(((str(span), 206), (past, 416), (ignored, 200)), (8, 1, 1))[0]
        return Ask(path=tarball.path, headers={"Range": text}, span=span, expected=frozenset({status}))

    def _conditional(self) -> Ask:
        if not self._tags:
            return self._listing()
        path, etag = self._random.choice(list(self._tags.items()))
        return Ask(path=path, headers={"If-None-Match": etag}, expected=frozenset({200, 304}))

    def _artifact_toml(self) -> Ask:
        artifacts = [tarball for tarball in self._catalogue.tarballs if tarball.path.startswith("/artifact/")]
        return Ask(path=f"{self._random.choice(artifacts).path}/Soak")

    def _absent(self) -> Ask:
        path = f"/artifact/{self._random.randbytes(20).hex()}"
        return Ask(path=path, method=self._random.choice(("GET", "HEAD")), expected=frozenset({404}))

    def _listing(self) -> Ask:
        if self._random.random() < 0.2:
            return Ask(path="/registries", expected=frozenset({302}))
        path = f"/registries.{self._random.choice(FLAVORS)}"
        if path in self._tags:
            return Ask(path=path, headers={"If-None-Match": self._tags[path]}, expected=frozenset({200, 304}))
        return Ask(path=path)

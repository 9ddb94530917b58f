"""What is wrong with a complete answer, if anything. Pure.

1. A body is right if it is, or is the asked slice of, *some* honest tarball of the tree; whoever goes on from a prefix
   must end up with one of them, whole.
2. A list of registries must be one that existed, and no older than any that was received before it was asked for.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.soak.asks import PAGES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.soak.asks import Ask
    from tests.soak.catalogue import Catalogue, Tarball

#: No storage server could deliver, or answered in time; or, before a first list of registries is known, busy.
REFUSALS: Final = frozenset({502, 503, 504})
_FOR_OPERATORS: Final = ("/admin", "/meta", "/metrics")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client received: ``complete`` as its framing promised; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool = True


class Judge:
    """Knows the catalogue, and the newest list of registries that anybody received."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._newest: dict[str, Mapping[str, int]] = {}

    def newest(self, path: str) -> Mapping[str, int]:
        """Return, for each registry in the list at ``path``, the state below which it must not fall any more."""
        return self._newest.get(path, {})

    def fault_of(self, ask: Ask, answer: Answer, floor: Mapping[str, int]) -> str | None:
        """Return what is wrong with a complete answer; ``floor`` is ``newest`` at the time of asking."""
        if answer.status in REFUSALS and not floor:
            return None
        if answer.status not in ask.expected:
            return f"expected one of {sorted(ask.expected)}"
        if answer.status in {304, 404} or ask.path in PAGES:
            return None
        if ask.path.startswith(_FOR_OPERATORS):
            return _fault_of_page(ask, answer)
        if ask.path.startswith("/registries"):
            return self._fault_of_listing(ask, answer, floor)
        return self._fault_of_resource(ask, answer)

    def _fault_of_resource(self, ask: Ask, answer: Answer) -> str | None:
        tarball = self._catalogue.by_path.get(ask.path)
        if tarball is None:
            return self._fault_of_toml(ask, answer)
        return _fault_of_head(tarball, answer) if ask.method == "HEAD" else _fault_of_body(tarball, ask, answer)

    def _fault_of_listing(self, ask: Ask, answer: Answer, floor: Mapping[str, int]) -> str | None:
        if answer.status == 302:
            location = answer.headers.get("location")
            return None if location in {"/registries.eager", "/registries.conservative"} else "leads elsewhere"
        lines = answer.body.decode("latin-1").splitlines()
        if not lines or not all(line in self._catalogue.ages for line in lines):
            return f"no such list: {answer.body!r}"
        listed = {line.split("/")[2]: self._catalogue.ages[line] for line in lines}
        back = {uuid: age for uuid, age in floor.items() if listed.get(uuid, -1) < age}
        if back:
            return f"went back from {back} to {listed}"
        newest = self.newest(ask.path)
        self._newest[ask.path] = {uuid: max(age, newest.get(uuid, -1)) for uuid, age in listed.items()}
        return None

    def _fault_of_toml(self, ask: Ask, answer: Answer) -> str | None:
        tarball = self._catalogue.by_path[ask.path.rpartition("/")[0]]
        text = answer.body.decode("latin-1")
        found = re.search(r'sha256 = "([0-9a-f]{64})"', text)
        named = tarball.path.rpartition("/")[2] in text
        return None if found and found[1] in tarball.sha256s and named else f"of another artifact: {text!r}"


def _fault_of_head(tarball: Tarball, answer: Answer) -> str | None:
    if "x-cache-miss" in answer.headers or "etag" not in answer.headers:
        return None  # what a storage server said, which may be a lie
    told = answer.headers.get("content-length")
    return None if told in {str(len(body)) for body in tarball.bodies} else "the length of no honest tarball"


def _fault_of_page(ask: Ask, answer: Answer) -> str | None:
    if ask.path == "/metrics":
        return None if b"\npkgserver_" in answer.body else "no metrics"
    if answer.headers.get("content-type", "").startswith("application/json"):
        try:
            json.loads(answer.body)
        except ValueError as error:
            return f"no JSON: {error}"
    return None


def _fault_of_body(tarball: Tarball, ask: Ask, answer: Answer) -> str | None:
    sizes = {len(body) for body in tarball.bodies}
    if answer.status == 416:
        refused = answer.headers.get("content-range") in {f"bytes */{size}" for size in sizes}
        return None if refused else "the size of no honest tarball"
    if answer.status == 200:
        return None if answer.body in tarball.bodies else _nearest(tarball.bodies, answer.body)
    right: list[bytes] = []
    for body in tarball.bodies:
        start, stop = ask.span.offsets(len(body)) if ask.span else (0, len(body))
        if answer.headers.get("content-range") == f"bytes {start}-{stop - 1}/{len(body)}":
            right.append(body if ask.prefix else body[start:stop])
    if not right:
        return "a range that was not asked for"
    body = ask.prefix + answer.body
    return None if body in right else _nearest(right, body)


def _nearest(right: list[bytes] | tuple[bytes, ...], wrong: bytes) -> str:
    """Say where the bytes part from the honest ones that they are most like."""

    def agreed(body: bytes) -> int:
        pairs = enumerate(zip(body, wrong, strict=False))
        return next((at for at, (one, other) in pairs if one != other), min(len(body), len(wrong)))

    nearest = max(right, key=agreed)
    return f"{len(wrong)} bytes, which part at {agreed(nearest)} from an honest tarball of {len(nearest)}"

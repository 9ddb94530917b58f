"""The account of a soak: what came, what was wrong, what was lost, what grew. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from tests.soak.judge import REFUSALS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.soak.asks import Ask
    from tests.soak.judge import Answer, Judge

#: What memory may grow by between two rests: the allocator gives back what it likes.
MEMORY_ALLOWANCE_BYTES: Final = 16 << 20
_MIB: Final = 1 << 20
NONE: Final[Mapping[str, int]] = MappingProxyType({})


class Outcome(StrEnum):
    RIGHT = "right"
    REFUSED = "refused"
    BROKEN = "broken"
    LEFT = "left by the client"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the server holds, at one moment; ``upstream`` are its connections to storage servers, not among ``fds``."""

    fds: int
    upstream: int
    threads: int
    children: int
    connections: int  # of clients
    unfinished: int  # files in temp/
    rss_bytes: int

    def growth_since(self, before: Vitals) -> dict[str, int]:
        """Return what there is more of, by name; nothing of it may stay. Memory counts beyond its allowance only."""
        tasks = ("threads", "children", "connections", "unfinished")
        grown = {name: max(getattr(self, name) - getattr(before, name), 0) for name in ("fds", *tasks)}
        grown["memory"] = max(self.rss_bytes - before.rss_bytes - MEMORY_ALLOWANCE_BYTES, 0)
        return grown


@dataclass(slots=True)
class Ledger:
    """Counts, and a sentence for each thing that must not happen: with one of those, the soak has failed."""

    judge: Judge
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    received_bytes: int = 0
    longest_silence: float = 0
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return self.outcomes.total()

    def note(self, ask: Ask, answer: Answer | None, *, left: bool = False, floor: Mapping[str, int] = NONE) -> Outcome:
        """Enter a request and its answer, None if not even a head came; ``left``: the client waited for no more."""
        self.received_bytes += len(answer.body) if answer else 0
        outcome = self._outcome(ask, answer, left=left, floor=floor)
        self.outcomes[outcome] += 1
        return outcome

    def _outcome(self, ask: Ask, answer: Answer | None, *, left: bool, floor: Mapping[str, int]) -> Outcome:
        if answer is None or not answer.complete:
            return Outcome.LEFT if left else Outcome.BROKEN
        if (fault := self.judge.fault_of(ask, answer, floor)) is not None:
            self.wrong.append(f"{ask}: {answer.status} {dict(answer.headers)}: {fault}")
            return Outcome.WRONG
        return Outcome.REFUSED if answer.status in REFUSALS else Outcome.RIGHT

    def condemn(self, sentence: str) -> Outcome:
        """Enter a request whose answer could not even be read."""
        self.wrong.append(sentence)
        self.outcomes[Outcome.WRONG] += 1
        return Outcome.WRONG

    def note_silence(self, seconds: float) -> None:
        """Enter how long a client waited for the next byte."""
        self.longest_silence = max(self.longest_silence, seconds)

    @property
    def passed(self) -> bool:
        """Nothing happened that must not happen."""
        return not (self.wrong or self.lost or self.defects)

    def progress(self) -> str:
        """Return the figures so far, in one line."""
        return (
            f"{self.requests} requests, {self.received_bytes // _MIB} MiB, {self.faults.total()} faults, "
            f"{self.outcomes[Outcome.BROKEN]} broken, {len(self.wrong)} wrong"
        )

    def compare(self, before: Vitals, after: Vitals) -> list[str]:
        """Enter what grew between two rests, and return the lines that tell of it."""
        grown = after.growth_since(before)
        self.defects.extend(f"{name} grew by {growth}" for name, growth in grown.items() if growth)
        tasks = ", ".join(f"{name} {grown[name]}" for name in ("threads", "children", "connections", "unfinished"))
        fds = f"{before.fds} to {after.fds}; upstream {before.upstream} to {after.upstream}"
        memory = f"{before.rss_bytes / _MIB:.1f} to {after.rss_bytes / _MIB:.1f} MiB"
        return [
            f"growth of fds      {grown['fds']} ({fds})",
            f"growth of tasks    {tasks}",
            f"growth of memory   {grown['memory']} ({memory}; {MEMORY_ALLOWANCE_BYTES // _MIB} MiB are allowed)",
        ]

    def report(self) -> list[str]:
        """Return the lines at the end, but for those of `compare`."""
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        outcomes = ", ".join(f"{outcome} {self.outcomes[outcome]}" for outcome in Outcome)
        return [
            f"requests           {self.requests}: {outcomes}",
            f"bytes              {self.received_bytes}",
            f"faults injected    {self.faults.total()}: {kinds}",
            f"broken answers     {self.outcomes[Outcome.BROKEN]}",
            f"longest silence    {self.longest_silence:.1f} s",
            f"wrong bytes        {len(self.wrong)} (statuses, and lists of registries that went back, among them)",
            f"resources lost     {len(self.lost)}",
        ]

"""What a verification of the cache finds, how that is told, and when it is time to say how far it has come."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What became of one file, or folder; the value is how that is told."""

    RIGHT = "right"
    WRONG = "wrong"
    MOVED = "wrong, moved to quarantine"
    CHANGED = "changed or gone meanwhile, left alone"
    UNKNOWN = "unknown, left alone"
    UNLISTED = "cannot be listed"


_CHECKED = frozenset({Verdict.RIGHT, Verdict.WRONG, Verdict.MOVED})
_WRONG = frozenset({Verdict.WRONG, Verdict.MOVED, Verdict.UNLISTED})


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict on what is called `name` (a file: below `cache/`); `fault` is what is wrong with it."""

    verdict: Verdict
    name: str
    fault: str = ""

    @property
    def line(self) -> str | None:
        """What an operator is told; None when there is nothing to tell."""
        if self.verdict is Verdict.RIGHT:
            return None
        shown = self.name if self.name.isprintable() else repr(self.name)  # no file name may steer a terminal
        return f"{self.verdict}: {shown}" + (f": {self.fault}" if self.fault else "")


@dataclass(slots=True)
class Tally:
    """What was checked so far, or is there to check."""

    files: int = 0
    size_bytes: int = 0
    wrong: int = 0
    moved: int = 0

    def count(self, verdict: Verdict, size_bytes: int) -> None:
        """Count one file or folder; what vanished, changed or is unknown was not checked."""
        if verdict in _CHECKED:
            self.files += 1
            self.size_bytes += size_bytes
        self.wrong += verdict in _WRONG
        self.moved += verdict is Verdict.MOVED

    def summary(self, seconds: float) -> str:
        """Return the last line of a verification that took so long."""
        wrong = f"{self.wrong} wrong" + (f" ({self.moved} moved to quarantine)" if self.moved else "")
        return f"verified {self.files} files, {self.size_bytes} bytes, {wrong}, {seconds:.1f} seconds"


class Milestones:
    """When the progress of a work of `total_bytes` is worth a word: at each of `parts`, and after `seconds` without."""

    def __init__(self, total_bytes: int, *, parts: int, seconds: float, now: float) -> None:
        self._total_bytes = max(total_bytes, 1)
        self._parts = parts
        self._seconds = seconds
        self._part = 0
        self._told = now

    def is_due(self, done_bytes: int, now: float) -> bool:
        """Tell whether to say something now; what is due is taken for said."""
        part = done_bytes * self._parts // self._total_bytes
        if part <= self._part and now - self._told < self._seconds:
            return False
        self._part, self._told = part, now
        return True


def progress_line(done: Tally, total: Tally, seconds: float) -> str:
    """Return how far a verification is that has taken so long."""
    share = min(done.size_bytes / max(total.size_bytes, 1), 1)
    left = f"{seconds / share - seconds:.0f} s left" if share else "time left unknown"
    return f"{share:4.0%}  {done.files} of {total.files} files, {pace(done, seconds)}, {left}"


def pace(done: Tally, seconds: float) -> str:
    """Return how much was read in so long, and how fast."""
    rate = done.size_bytes / seconds if seconds else 0
    return f"{done.size_bytes / 1e6:.1f} MB, {rate / 1e6:.1f} MB/s"

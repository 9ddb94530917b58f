"""``make fuzz``: mutated inputs for the parsers, until the time is over or something is found.

1. The same seed makes the same cases, on every machine.
2. A finding is an input that a check complains of, that takes more than ``SLOW_SECONDS``, or for which memory grows by
   ``MUCH_MEMORY_BYTES``. It is written to ``FINDINGS``, to be tried again with FUZZ_REPLAY.
3. Settings are environment variables: FUZZ_SECONDS (60), FUZZ_SEED (the date), FUZZ_REPLAY (a file of a finding).
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.fuzz.targets import TARGETS, FindingError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

    from tests.fuzz.targets import Target

SLOW_SECONDS: Final = 2
HANGS_SECONDS: Final = 30
MUCH_MEMORY_BYTES: Final = 128 << 20
FINDINGS: Final = Path("build/fuzz")


class Finding(NamedTuple):
    """The target, the input, and what happened."""

    target: str
    tried: bytes
    complaint: str

    def save(self) -> Path:
        """Write the input to a file, and return it."""
        FINDINGS.mkdir(parents=True, exist_ok=True)
        path = FINDINGS / f"{self.target}-{sha256(self.tried).hexdigest()[:12]}"
        path.write_bytes(self.tried)
        return path


class Fuzzer:
    """Tries the cases of one seed, each on every target."""

    def __init__(self, seed: str, targets: Mapping[str, Target] = TARGETS) -> None:
        self._seed = seed
        self._targets = targets
        self.executions = 0

    def try_case(self, number: int) -> list[Finding]:
        """Return what case ``number`` finds."""
        findings = []
        for name, target in self._targets.items():
            tried = target.case(Random(f"{self._seed} {name} {number}"))  # noqa: S311 - no secret
            complaint = complaint_of(target, tried)
            self.executions += 1
            if complaint is not None:
                findings.append(Finding(name, tried, complaint))
        return findings


def complaint_of(target: Target, tried: bytes) -> str | None:
    """Return what is wrong with the target for this input, if anything is."""
    memory_bytes, started = peak_memory_bytes(), time.perf_counter()
    try:
        target.check(tried)
    except Exception as error:  # noqa: BLE001 - that there is none but the expected is what is tried
        return f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - started
    if seconds > SLOW_SECONDS:
        return f"took {seconds:.1f} s"
    grown_bytes = peak_memory_bytes() - memory_bytes
    return f"took {grown_bytes >> 20} MiB" if grown_bytes > MUCH_MEMORY_BYTES else None


def peak_memory_bytes() -> int:
    """Return the most that this process ever had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def fuzz(seed: str, seconds: float) -> list[Finding]:
    """Try one case after the other, until the time is over or something is found."""
    fuzzer, started, number = Fuzzer(seed), time.monotonic(), 0
    findings: list[Finding] = []
    while not findings and time.monotonic() < started + seconds:
        signal.alarm(HANGS_SECONDS)
        findings = fuzzer.try_case(number)
        number += 1
    signal.alarm(0)
    rate = fuzzer.executions / (time.monotonic() - started)
    print(f"{fuzzer.executions} executions of {', '.join(TARGETS)}, {rate:.0f} a second, seed {seed!r}")  # noqa: T201 - a program
    return findings


def give_up(_signal: int, _frame: FrameType | None) -> None:
    """Turn a parser that hangs into a finding."""
    raise FindingError(f"hangs for {HANGS_SECONDS} s")


def main() -> None:
    """Fuzz, or replay a finding; exit with 1 when something is found."""
    signal.signal(signal.SIGALRM, give_up)
    replay = os.environ.get("FUZZ_REPLAY")
    if replay:
        path = Path(replay)
        name, tried = path.name.partition("-")[0], path.read_bytes()
        complaint = complaint_of(TARGETS[name], tried)
        sys.exit(f"{name}: {complaint}" if complaint else None)
    seed = os.environ.get("FUZZ_SEED") or f"{datetime.now(UTC):%Y-%m-%d}"
    findings = fuzz(seed, float(os.environ.get("FUZZ_SECONDS") or 60))
    for finding in findings:
        print(f"{finding.target}: {finding.complaint}\n  again: make fuzz FUZZ_REPLAY={finding.save()}")  # noqa: T201 - a program
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()

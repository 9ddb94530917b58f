"""`make soak`: `SOAK_SECONDS` of load (600), with the dice of `SOAK_SEED` (any text; without it, another each time)."""

from __future__ import annotations

import os
import resource
import shutil
import sys
import time
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Final

import trio
from tests.soak.run import open_soak

if TYPE_CHECKING:
    from tests.soak.run import Soak

_FOLDER: Final = Path("build/soak")
_LEAST_SECONDS: Final = 10
_SHOWN: Final = 10


def main() -> int:
    """Run the soak that the environment asks for; return 0 if nothing happened that must not."""
    text = os.environ.get("SOAK_SECONDS") or "600"
    if not text.isascii() or not text.isdigit() or int(text) < _LEAST_SECONDS:
        sys.stderr.write(f"soak: SOAK_SECONDS is {text!r}, expected a whole number from {_LEAST_SECONDS}\n")
        return 2
    shutil.rmtree(_FOLDER, ignore_errors=True)
    _FOLDER.mkdir(parents=True)
    seed = os.environ.get("SOAK_SEED") or token_hex(4)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a stalled storage server never lets a connection go
    return trio.run(_soak, seed, int(text), _Speaker())


class _Speaker:
    """Prints lines with the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self, line: str) -> None:
        sys.stdout.write(f"[{time.monotonic() - self._start:5.0f} s] {line}\n")
        sys.stdout.flush()


async def _soak(seed: str, seconds: int, say: _Speaker) -> int:
    say(f"SOAK_SEED={seed} SOAK_SECONDS={seconds}")
    async with open_soak(_FOLDER.absolute(), seed, seconds, say) as soak:
        try:
            await soak.run(seconds)
        finally:
            _say_what_was_bad(soak, say)
    return 0 if soak.ledger.passed else 1


def _say_what_was_bad(soak: Soak, say: _Speaker) -> None:
    bad = {"wrong": soak.ledger.wrong, "lost": soak.ledger.lost, "defect": soak.ledger.defects}
    for kind, sentences in bad.items():
        for sentence in sentences[:_SHOWN]:
            say(f"{kind}: {sentence}")
        if len(sentences) > _SHOWN:
            say(f"{kind}: and {len(sentences) - _SHOWN} more")
    say(f"{'passed' if soak.ledger.passed else 'FAILED'}; the server's log is {soak.server.log}")


if __name__ == "__main__":
    sys.exit(main())

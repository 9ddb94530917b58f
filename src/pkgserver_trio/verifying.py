"""The verification of the whole cache beside the server that uses it: begun when somebody asks, one at a time."""

from __future__ import annotations

import time
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog
import trio

from pkgserver_trio.errors import most_telling
from pkgserver_trio.printable import printable
from pkgserver_trio.storage.findings import Milestones, Tally, progress_line
from pkgserver_trio.storage.verification import Verification

if TYPE_CHECKING:
    from pkgserver_trio.storage.hashing import Hashing
    from pkgserver_trio.storage.store import Store

#: Of what was found, the last is told over HTTP; the log has it all.
_MAX_FINDINGS = 100


class Verifying:
    """Verifies `store` in its own task, `run`; what is wrong goes to quarantine, what is right is trusted from then on.

    `hashing` should be one of few threads: downloads are verified at the same time.
    """

    def __init__(self, store: Store, hashing: Hashing) -> None:
        self._store = store
        self._hashing = hashing
        self._wanted = trio.Event()
        self._log = structlog.get_logger()
        self._status = "never"
        self._began = self._ended = time.time()
        self._total = self._done = Tally()
        self._findings: deque[str] = deque(maxlen=_MAX_FINDINGS)
        self._error: str | None = None

    def begin(self) -> bool:
        """Have a verification run; False when one does already."""
        if self._status == "running":
            return False
        self._status = "running"
        self._began = time.time()
        self._total = self._done = Tally()
        self._findings.clear()
        self._error = None
        self._wanted.set()
        return True

    def report(self) -> dict[str, Any]:
        """Return how the last verification is going, or went, in terms of JSON."""
        ran = self._status != "never"
        seconds = (time.time() if self._status == "running" else self._ended) - self._began
        return {
            "status": self._status,
            "began": datetime.fromtimestamp(self._began, UTC).isoformat(timespec="seconds") if ran else None,
            "seconds": round(max(seconds, 0), 1) if ran else None,
            "files": self._done.files,
            "files_in_all": self._total.files,
            "size_bytes": self._done.size_bytes,
            "size_bytes_in_all": self._total.size_bytes,
            "wrong": self._done.wrong,
            "moved_to_quarantine": self._done.moved,
            "findings": list(self._findings),
            "error": self._error,
        }

    async def run(self) -> None:
        """Verify whenever it is asked for."""
        while True:
            await self._wanted.wait()
            failures: list[BaseException] = []
            try:
                await self._verify()
            except* OSError as group:
                failures.append(most_telling(group))
            self._ended = time.time()
            for failure in failures:
                self._error = printable(str(failure))
                self._log.error("the cache cannot be verified", error=self._error)
            self._status = "failed" if failures else "done"
            self._wanted = trio.Event()

    async def _verify(self) -> None:
        """Verify once. Raises OSError, alone or in groups, when the process runs short of what it needs."""
        self._log.info("verifying the cache")
        started = trio.current_time()
        verification = Verification(self._store.files, self._hashing, self._store, self._tell)
        self._done = verification.tally
        self._total = await verification.survey()
        milestones = Milestones(self._total.size_bytes, parts=10, seconds=60, now=started)

        def advance(done: Tally) -> None:
            now = trio.current_time()
            if milestones.is_due(done.size_bytes, now):
                self._log.info("verifying", progress=progress_line(done, self._total, now - started))

        await verification.run(advance)
        summary = verification.tally.summary(trio.current_time() - started)
        (self._log.error if verification.tally.wrong else self._log.info)("cache verified", summary=summary)

    def _tell(self, line: str) -> None:
        self._findings.append(printable(line))
        self._log.warning("verification", finding=line)

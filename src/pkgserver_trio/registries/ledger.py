"""What was published when, and what was passed over: so that no registry moves back, not even after a restart.

A text file, a JSON object on each line, an empty one before it, only ever appended to: kill -9 can cost its last line,
and an operator can read it. What cannot be read of it is left out. Synchronous and thread-safe; every call may block
and may raise OSError.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pkgserver_trio.storage.disk import Disk

_PUBLISHED: Final = "published"
_PASSED_OVER: Final = "passed over"
#: How long a head that was found older stays so: servers were asked at one moment, and may not have known all.
PASSED_OVER_SECONDS: Final = 300


@dataclass(frozen=True, slots=True)
class Adoption:
    """The head that is published; times are Unix seconds: of the adoption, and of the list that offered it, whose."""

    head: str
    seconds: float
    listed_seconds: float | None = None
    listed_by: str | None = None


class Ledger:
    """All flavors' registries, in the file at `path`. Raises OSError when it is there and cannot be read."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self._path, self._disk = path, disk
        self._lock = threading.Lock()
        self._adoptions: dict[tuple[str, str], Adoption] = {}
        self._superseded: dict[tuple[str, str], set[str]] = {}
        self._passed_over: dict[tuple[str, str], dict[str, float]] = {}
        lines = path.read_bytes().splitlines() if path.exists() else []
        for line in lines:
            self._read(line)

    def adoption(self, flavor: str, uuid: str) -> Adoption | None:
        """Return what was published last, and when."""
        return self._adoptions.get((flavor, uuid))

    def is_superseded(self, flavor: str, uuid: str, head: str) -> bool:
        """Tell whether this head was published, and then another."""
        return head in self._superseded.get((flavor, uuid), ())

    def is_passed_over(self, flavor: str, uuid: str, head: str, now: float) -> bool:
        """Tell whether this head was found older than a published one not long before `now`."""
        found = self._passed_over.get((flavor, uuid), {}).get(head)
        return found is not None and abs(now - found) < PASSED_OVER_SECONDS

    def adopt(self, flavor: str, uuid: str, adoption: Adoption) -> None:
        """Note, durably, that a head is published now; the one before it is superseded."""
        with self._lock:
            self._write(_PUBLISHED, flavor, uuid, [adoption])
            self._enter(flavor, uuid, adoption)

    def pass_over(self, flavor: str, uuid: str, heads: Iterable[str], seconds: float) -> None:
        """Note, durably, that these heads were found older than the published one."""
        with self._lock:
            new = [head for head in heads if not self.is_superseded(flavor, uuid, head)]
            new = [head for head in new if not self.is_passed_over(flavor, uuid, head, seconds)]
            if new:
                self._write(_PASSED_OVER, flavor, uuid, [Adoption(head, seconds) for head in new])
                self._passed_over.setdefault((flavor, uuid), {}).update(dict.fromkeys(new, seconds))

    def _enter(self, flavor: str, uuid: str, adoption: Adoption) -> None:
        superseded = self._superseded.setdefault((flavor, uuid), set())
        before = self._adoptions.get((flavor, uuid))
        if before is not None:
            superseded.add(before.head)
        superseded.discard(adoption.head)
        self._adoptions[flavor, uuid] = adoption

    def _write(self, event: str, flavor: str, uuid: str, adoptions: Iterable[Adoption]) -> None:
        lines = ""
        for adoption in adoptions:
            entry = {
                "time": datetime.fromtimestamp(adoption.seconds, UTC).isoformat(timespec="milliseconds"),
                "event": event,
                "flavor": flavor,
                "registry": uuid,
                "hash": adoption.head,
                "listed": adoption.listed_seconds,
                "server": adoption.listed_by,
            }
            lines += f"\n{json.dumps(entry)}\n"  # the line before may be one that a power cut left without its end
        self._disk.append(self._path, lines.encode())

    def _read(self, line: bytes) -> None:
        try:
            entry: dict[str, Any] = json.loads(line)
            seconds = datetime.fromisoformat(entry["time"]).timestamp()
            flavor, uuid, head = str(entry["flavor"]), str(entry["registry"]), str(entry["hash"])
            listed = None if entry["listed"] is None else float(entry["listed"])
            server = None if entry["server"] is None else str(entry["server"])
            event = entry["event"]
        except (ValueError, KeyError, TypeError):
            return
        if event == _PUBLISHED:
            self._enter(flavor, uuid, Adoption(head, seconds, listed, server))
        else:
            self._passed_over.setdefault((flavor, uuid), {})[head] = seconds

"""What is known of mirrored objects: which version each is, what is told of it, and since when; across restarts.

In memory, bounded in number, and written through to an SQLite file. A record says nothing of whether the bytes are
held: that is the store's to know. Losing one costs a question to the origin; so a file that cannot be read or written
forgets, and never fails its caller.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections import OrderedDict
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, Final

from pkgserver_trio.mirror.freshness import Freshness
from pkgserver_trio.mirror.object_digest import CHECKSUM_BYTES
from pkgserver_trio.mirror.object_head import ObjectHead
from pkgserver_trio.mirror.object_path import ObjectName
from pkgserver_trio.storage.verified import open_database

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pkgserver_trio.resource import Resource

#: How many objects are known; those asked about longest ago make room for more.
MAX_OBJECTS: Final = 10_000
_CHECKSUMS: Final = " ".join(CHECKSUM_BYTES)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    bucket TEXT NOT NULL, key TEXT NOT NULL, checked REAL NOT NULL, record TEXT NOT NULL, PRIMARY KEY (bucket, key)
) WITHOUT ROWID
"""
_PUT = "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)"
_DELETE = "DELETE FROM objects WHERE bucket = ? AND key = ?"


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """One object as it was at `checked` (Unix seconds), and what may be made of that."""

    head: ObjectHead
    freshness: Freshness
    checked: float

    @property
    def is_kept(self) -> bool:
        """It may be kept; what nothing tells from other versions could not be asked about again."""
        return self.freshness.kept and self.head.has_validator

    @property
    def is_sure(self) -> bool:
        """Nothing has shown since that it is another version by now."""
        return self.checked != float("-inf")

    def age(self, now: float) -> float:
        """Return for how long it is no longer fresh, in seconds; negative while it is."""
        if now < self.checked - 1:  # the clock was moved back: nothing can be said of its age
            return float("inf")
        return now - self.checked - self.freshness.seconds

    def expired(self) -> ObjectRecord:
        """Return it as one that has to be asked about."""
        return replace(self, checked=float("-inf"))


class ObjectRecords:
    """The memory, a file at `path`; `is_pointer` knows today's settings. Raises sqlite3.Error, OSError."""

    def __init__(self, path: Path, is_pointer: Callable[[ObjectName], bool]) -> None:
        self._lock = threading.Lock()
        self._is_pointer = is_pointer
        self._database = open_database(path, _SCHEMA, "objects")
        self._records: OrderedDict[ObjectName, ObjectRecord] = OrderedDict()
        self._load()

    def __len__(self) -> int:
        """Return how many objects are known."""
        return len(self._records)

    def get(self, name: ObjectName) -> ObjectRecord | None:
        """Return what is known of an object."""
        return self._records.get(name)

    def resource(self, name: ObjectName) -> Resource | None:
        """Return what its known version is called in the cache."""
        record = self.get(name)
        return None if record is None else record.head.resource(name)

    def enter(self, name: ObjectName, record: ObjectRecord) -> list[ObjectName]:
        """Know this of an object from now on, in memory; return who had to make room. `save` writes it."""
        self._records[name] = record
        self._records.move_to_end(name)
        gone = []
        while len(self._records) > MAX_OBJECTS:
            gone.append(self._records.popitem(last=False)[0])
        return gone

    def drop(self, name: ObjectName) -> None:
        """Know nothing of an object any more, in memory."""
        self._records.pop(name, None)

    def save(self, name: ObjectName, record: ObjectRecord | None, gone: list[ObjectName]) -> None:
        """Write what was entered, or that it was dropped (None). Blocking, for any thread."""
        with self._lock, contextlib.suppress(sqlite3.Error), self._database:
            self._database.executemany(_DELETE, [(old.bucket, old.key) for old in gone])
            if record is None:
                self._database.execute(_DELETE, (name.bucket, name.key))
            else:
                self._database.execute(_PUT, (name.bucket, name.key, record.checked, _dumped(record)))

    def close(self) -> None:
        """Write everything out."""
        with self._lock:
            self._database.close()

    def _load(self) -> None:
        """Read what an earlier server knew, the newest that fit."""
        newest = f"SELECT bucket, key, checked, record FROM objects ORDER BY checked DESC LIMIT {MAX_OBJECTS}"  # noqa: S608
        with contextlib.suppress(sqlite3.Error):
            for bucket, key, checked, text in self._database.execute(newest).fetchall()[::-1]:
                with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
                    name = ObjectName(bucket, key)
                    self._records[name] = self._loaded(name, checked, text)

    def _loaded(self, name: ObjectName, checked: float, text: str) -> ObjectRecord:
        dumped = json.loads(text)
        kept, seconds, may_lag, may_outlive = dumped["freshness"]
        freshness = Freshness(bool(kept), float(seconds), may_lag=bool(may_lag), may_outlive=bool(may_outlive))
        record = ObjectRecord(
            ObjectHead.load(dumped), freshness.of_pointer() if self._is_pointer(name) else freshness, checked
        )
        # A server that can check more, or less, has the origin say again what there is to check.
        unchecked = record.head.digest is None or record.head.digest.algorithm not in CHECKSUM_BYTES
        return record.expired() if unchecked and dumped.get("checksums") != _CHECKSUMS else record


def _dumped(record: ObjectRecord) -> str:
    return json.dumps({**record.head.dump(), "freshness": astuple(record.freshness), "checksums": _CHECKSUMS})

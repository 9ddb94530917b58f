"""What this store has verified: remembered across restarts and kill -9, so that no right file is hashed twice.

A file counts as verified while its size and modification time are those that were verified. Losing an entry costs one
more hash; an entry is only ever added after the file's content is durable, so none can vouch for a file that a power
cut emptied. A memory that cannot be read or written (full disk, damage) therefore forgets, and never fails its caller.
Synchronous, safe for several threads, and for several processes: a server and a `verify`. Every call may block.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pkgserver_trio.storage.disk import FileStat

_SCHEMA = """
CREATE TABLE IF NOT EXISTS verified (
    name TEXT PRIMARY KEY, size_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, sha256 TEXT
) WITHOUT ROWID
"""

#: How long one process waits for another that writes.
_BUSY_SECONDS: Final = 5
_RETRY_SECONDS: Final = 0.01
#: The primary code is the last byte of SQLite's extended ones.
_PRIMARY: Final = 0xFF
_ADD = """
INSERT INTO verified VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE
SET size_bytes = excluded.size_bytes, mtime_ns = excluded.mtime_ns, sha256 = excluded.sha256
WHERE excluded.sha256 IS NOT NULL OR (size_bytes, mtime_ns) != (excluded.size_bytes, excluded.mtime_ns)
"""


class Verified:
    """The memory, an SQLite file at `path`; a damaged one is begun anew. Raises sqlite3.Error.

    Where the disk is full or fails the memory lasts until the end of the process: what is there can still be served.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._database = open_database(path, _SCHEMA, "verified")

    def close(self) -> None:
        """Write everything out."""
        with self._lock:
            self._database.close()

    def knows(self, name: str, stat: FileStat) -> bool:
        """Tell whether the file called `name`, as it is now, was verified."""
        return self._row(name, stat) is not None

    def known(self, stats: Mapping[str, FileStat]) -> set[str]:
        """Return which of at most 500 files, by name, were verified as they are now."""
        rows: list[tuple[str, int, int]] = []
        asked = f"SELECT name, size_bytes, mtime_ns FROM verified WHERE name IN ({','.join('?' * len(stats))})"  # noqa: S608 # question marks only
        with self._lock, contextlib.suppress(sqlite3.Error):
            rows = self._database.execute(asked, tuple(stats)).fetchall()
        return {name for name, *now in rows if now == [stats[name].size_bytes, stats[name].mtime_ns]}

    def sha256(self, name: str, stat: FileStat) -> str | None:
        """Return the remembered SHA-256 (64 hex) of the file as it is now, or None."""
        row = self._row(name, stat)
        return None if row is None else row[0]

    def add(self, name: str, stat: FileStat, *, sha256: str | None = None) -> None:
        """Remember that the file called `name`, as it is now, is right; and its SHA-256 when that is known.

        What is remembered of the same file stays: who finds it right again need not know its SHA-256.
        """
        with self._lock, contextlib.suppress(sqlite3.Error), self._database:
            self._database.execute(_ADD, (name, stat.size_bytes, stat.mtime_ns, sha256))

    def forget(self, name: str) -> None:
        """Remember nothing of `name` any more."""
        with self._lock, contextlib.suppress(sqlite3.Error), self._database:
            self._database.execute("DELETE FROM verified WHERE name = ?", (name,))

    def _row(self, name: str, stat: FileStat) -> tuple[str | None] | None:
        row: tuple[str | None] | None = None
        with self._lock, contextlib.suppress(sqlite3.Error):
            row = self._database.execute(
                "SELECT sha256 FROM verified WHERE name = ? AND size_bytes = ? AND mtime_ns = ?",
                (name, stat.size_bytes, stat.mtime_ns),
            ).fetchone()
        return row


def open_database(path: Path, schema: str, table: str) -> sqlite3.Connection:
    """Return the database at `path`, one in memory where the disk is full or fails; a damaged one is begun anew.

    Raises sqlite3.Error.
    """
    try:
        return _open_database(path, schema, table)
    except sqlite3.DatabaseError as error:
        code = error.sqlite_errorcode & _PRIMARY
        if code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}:
            structlog.get_logger().warning("what is verified will not be remembered", memory=table, error=str(error))
            return _open_database(":memory:", schema, table)
        if code not in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            raise
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return _open_database(path, schema, table)


def _open_database(path: Path | str, schema: str, table: str) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False, timeout=_BUSY_SECONDS)
    try:
        _write_ahead(database)
        database.execute("PRAGMA synchronous = NORMAL")  # durable enough: see the module's docstring
        database.execute(schema)
        database.execute(f"SELECT count(*) FROM (SELECT * FROM {table} LIMIT 1)")  # noqa: S608 # finds damage now, not later
        database.commit()
    except sqlite3.Error:
        database.close()
        raise
    return database


def _write_ahead(database: sqlite3.Connection) -> None:
    """Choose the journal that lets one process read while another writes.

    SQLite does not wait with this, as it does with all else, for another process that is just making the same file.
    """
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & _PRIMARY != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)
        else:
            return

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pkgserver_trio.disk import FileStat
from pkgserver_trio.verified import Verified

if TYPE_CHECKING:
    from pathlib import Path

NAME = "artifact/one"
STAT = FileStat(size_bytes=10, mtime_ns=1_000_000_000, atime_ns=5)
SHA256 = "ab" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "verified.sqlite"


def test_what_was_added_is_known_after_a_reopen(path: Path) -> None:
    with closing(Verified(path)) as verified:
        verified.add(NAME, STAT, sha256=SHA256)
        verified.add("artifact/two", STAT)
    with closing(Verified(path)) as verified:
        assert verified.knows(NAME, STAT)
        assert verified.sha256(NAME, STAT) == SHA256
        assert verified.knows("artifact/two", STAT)
        assert verified.sha256("artifact/two", STAT) is None
        assert not verified.knows("artifact/three", STAT)


def test_what_was_added_survives_without_a_close(path: Path) -> None:
    with closing(Verified(path)) as first:
        first.add(NAME, STAT)
        with closing(Verified(path)) as second:
            assert second.knows(NAME, STAT)


@pytest.mark.parametrize("changed", [replace(STAT, size_bytes=11), replace(STAT, mtime_ns=1_000_000_001)])
def test_a_changed_file_is_unknown_again(path: Path, changed: FileStat) -> None:
    with closing(Verified(path)) as verified:
        verified.add(NAME, STAT, sha256=SHA256)
        assert not verified.knows(NAME, changed)
        assert verified.sha256(NAME, changed) is None
        assert verified.knows(NAME, replace(STAT, atime_ns=6))


def test_what_is_forgotten_is_unknown(path: Path) -> None:
    with closing(Verified(path)) as verified:
        verified.add(NAME, STAT)
        verified.forget(NAME)
        assert not verified.knows(NAME, STAT)


@pytest.mark.parametrize("damage", [b"no database", b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_memory_is_begun_anew(path: Path, damage: bytes) -> None:
    with closing(Verified(path)) as verified:
        verified.add(NAME, STAT)
    path.write_bytes(damage)
    with closing(Verified(path)) as verified:
        assert not verified.knows(NAME, STAT)
        verified.add(NAME, STAT)
    with closing(Verified(path)) as verified:
        assert verified.knows(NAME, STAT)


def test_a_memory_that_fails_forgets_and_never_fails_its_caller(path: Path) -> None:
    with closing(Verified(path)) as verified:
        verified.add(NAME, STAT)
        with closing(sqlite3.connect(path)) as stranger:
            stranger.execute("DROP TABLE verified")
        assert not verified.knows(NAME, STAT)
        verified.add(NAME, STAT)
        verified.forget(NAME)
        assert verified.sha256(NAME, STAT) is None


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR | 13 << 8])
def test_a_memory_on_a_failing_disk_lasts_as_long_as_the_process(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    connect = sqlite3.connect

    def refuse(database: Path | str, *, check_same_thread: bool) -> sqlite3.Connection:
        if database != path:
            return connect(database, check_same_thread=check_same_thread)
        error = sqlite3.OperationalError("refused")
        error.sqlite_errorcode = code
        raise error

    monkeypatch.setattr(sqlite3, "connect", refuse)
    with closing(Verified(path)) as verified:
        verified.add(NAME, STAT)
        assert verified.knows(NAME, STAT)
    with closing(Verified(path)) as verified:
        assert not verified.knows(NAME, STAT)


def test_a_memory_that_may_not_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        Verified(tmp_path)

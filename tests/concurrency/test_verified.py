from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pkgserver_trio.storage.disk import FileStat
from pkgserver_trio.storage.verified import Verified

if TYPE_CHECKING:
    from pathlib import Path

NAME = "artifact/one"
STAT = FileStat(size_bytes=10, mtime_ns=1_000_000_000, atime_ns=5, device=1, inode=2)
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


def test_many_are_asked_for_at_once(path: Path) -> None:
    names = [f"artifact/{number}" for number in range(500)]
    with closing(Verified(path)) as verified:
        for name in names[:3]:
            verified.add(name, STAT)
        stats = dict.fromkeys(names, STAT) | {
            names[1]: replace(STAT, size_bytes=11),
            names[2]: replace(STAT, mtime_ns=1),
        }
        assert verified.known(stats) == {names[0]}
    assert verified.known(stats) == set()  # a memory that cannot be read forgets


@pytest.mark.parametrize("changed", [replace(STAT, size_bytes=11), replace(STAT, mtime_ns=1_000_000_001)])
def test_a_changed_file_is_unknown_again(path: Path, changed: FileStat) -> None:
    with closing(Verified(path)) as verified:
        verified.add(NAME, STAT, sha256=SHA256)
        assert not verified.knows(NAME, changed)
        assert verified.sha256(NAME, changed) is None
        assert verified.knows(NAME, replace(STAT, atime_ns=6))


def test_who_does_not_know_the_sha256_of_the_same_file_forgets_it_not(path: Path) -> None:
    with closing(Verified(path)) as verified:
        verified.add(NAME, STAT, sha256=SHA256)
        verified.add(NAME, STAT)
        assert verified.sha256(NAME, STAT) == SHA256
        verified.add(NAME, STAT, sha256="cd" * 32)
        assert verified.sha256(NAME, STAT) == "cd" * 32
        verified.add(NAME, replace(STAT, size_bytes=11))
        assert verified.sha256(NAME, replace(STAT, size_bytes=11)) is None


ADD_MANY = """
import sys
from pathlib import Path
from pkgserver_trio.storage.disk import FileStat
from pkgserver_trio.storage.verified import Verified
verified = Verified(Path(sys.argv[1]))
sys.stdin.readline()
for number in range(200):
    verified.add(f"{sys.argv[2]}/{number}", FileStat(10, 1_000_000_000, 5, 1, 2))
verified.close()
"""


def test_processes_that_share_a_memory_lose_nothing(path: Path) -> None:
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    commands = [[sys.executable, "-c", ADD_MANY, str(path), kind] for kind in ("package", "artifact")]
    with ExitStack() as stack:
        running = [
            stack.enter_context(subprocess.Popen(command, env=environment, stdin=subprocess.PIPE))
            for command in commands
        ]
        for process in running:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.close()
        assert [process.wait(30) for process in running] == [0, 0]
    with closing(Verified(path)) as verified:
        known = [verified.knows(f"{kind}/{number}", STAT) for kind in ("package", "artifact") for number in range(200)]
    assert known == [True] * 400


def test_all_who_begin_a_memory_at_one_time_get_it(tmp_path: Path) -> None:
    for attempt in range(40):  # without a wait for each other, one in twenty fails
        path = tmp_path / str(attempt)
        ready = threading.Barrier(4)

        def begin(path: Path = path, ready: threading.Barrier = ready) -> None:
            ready.wait(10)
            Verified(path).close()

        with ThreadPoolExecutor(4) as threads:
            for begun in [threads.submit(begin) for _ in range(4)]:
                begun.result()


def test_a_memory_that_another_keeps_to_itself_is_an_error_after_a_while(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pkgserver_trio.storage.verified._BUSY_SECONDS", 0.02)
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            Verified(path)


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

    def refuse(database: Path | str, *, check_same_thread: bool, timeout: float) -> sqlite3.Connection:
        if database != path:
            return connect(database, check_same_thread=check_same_thread, timeout=timeout)
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


def test_a_memory_that_another_keeps_to_itself_for_a_moment_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(tmp_path / "verified.sqlite", isolation_level=None)) as other:
        other.execute("CREATE TABLE theirs (name)")
        other.execute("BEGIN EXCLUSIVE")
        monkeypatch.setattr("pkgserver_trio.storage.verified._BUSY_SECONDS", 0.05)
        monkeypatch.setattr("pkgserver_trio.storage.verified.time.monotonic", lambda: 0.0)
        monkeypatch.setattr("pkgserver_trio.storage.verified.time.sleep", lambda _: other.execute("ROLLBACK"))
        Verified(tmp_path / "verified.sqlite").close()

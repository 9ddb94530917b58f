from __future__ import annotations

import fcntl
import socket
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from pkgserver_trio.storage.lock_sign import is_draining, latest_end, sign_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STARTED = datetime(2030, 1, 1, tzinfo=UTC)


@contextmanager
def held(path: Path, content: str) -> Iterator[None]:
    """Own the lock file `path`, which says `content`."""
    path.write_text(content, "utf-8")
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def soon() -> int:
    return latest_end(20)


@pytest.mark.parametrize("seconds", [0, 20])
def test_owner_that_was_told_to_end_drains(tmp_path: Path, seconds: float) -> None:
    lock = tmp_path / "lock"
    with held(lock, sign_of(STARTED, latest_end(seconds))):
        assert is_draining(lock)


def test_clock_that_is_set_meanwhile_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "lock"
    with held(lock, sign_of(STARTED, soon())):
        for hours in (-1, 1):
            there = time.time() + hours * 3600
            monkeypatch.setattr(time, "time", lambda there=there: there)
            assert is_draining(lock)


def test_it_drains_as_long_as_it_has_time_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "lock"
    with held(lock, sign_of(STARTED, soon())):
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 20)
        assert is_draining(lock)
        monkeypatch.setattr(time, "monotonic", lambda: now + 23)
        assert not is_draining(lock)


def test_what_a_killed_one_has_left_says_nothing(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with held(lock, sign_of(STARTED, soon())):
        pass
    assert not is_draining(lock)


@pytest.mark.parametrize(
    "content",
    [
        "",
        sign_of(STARTED),
        sign_of(STARTED, int(time.monotonic()) - 2),
        sign_of(STARTED, soon()).replace(f"host {socket.gethostname()},", "host another,"),
        sign_of(STARTED, soon()).replace("gone by ", "gone by x"),
        sign_of(STARTED, soon()).replace("gone by ", "gone by " + "9" * 500),
        sign_of(STARTED, soon()) + "and more",
    ],
    ids=["nothing", "serves", "is late", "another host", "no time", "too long", "more"],
)
def test_owner_that_says_nothing_of_the_kind_does_not_drain(tmp_path: Path, content: str) -> None:
    lock = tmp_path / "lock"
    with held(lock, content):
        assert not is_draining(lock)


def test_no_lock_file_is_nobody(tmp_path: Path) -> None:
    assert not is_draining(tmp_path / "lock")

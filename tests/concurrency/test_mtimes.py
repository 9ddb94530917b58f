"""Times for downloads: never the same twice, whoever was killed in between and whatever the clock does."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from pkgserver_trio.opening import StartError, open_mtimes
from pkgserver_trio.resource import Kind, Resource
from pkgserver_trio.storage import mtimes
from pkgserver_trio.storage.disk import Disk
from pkgserver_trio.storage.mtimes import MOST_AHEAD_SECONDS, STRIDE_SECONDS, Mtimes

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_700_000_000
ONE, OTHER, THIRD = (Resource(Kind.ARTIFACT, digit * 40) for digit in "abc")


class CountingDisk(Disk):
    """Counts what is written over, and refuses it when it is `full`."""

    def __init__(self, *, full: bool = False) -> None:
        self.full = full
        self.written = 0

    def overwrite(self, path: Path, piece: bytes) -> None:
        self.written += 1
        if self.full:
            raise OSError(errno.ENOSPC, "no space left on device")
        super().overwrite(path, piece)


@given(st.lists(st.tuples(st.integers(-30, 30), st.integers(1, 40)), min_size=2, max_size=6))
def test_no_process_gives_what_an_earlier_one_gave(
    tmp_path_factory: pytest.TempPathFactory, lives: list[tuple[int, int]]
) -> None:
    note, given_times = tmp_path_factory.mktemp("store") / "note", []
    now = NOW
    for jump, downloads in lives:  # each life ends by kill -9, at a moment when its times may be ahead of the clock
        now += jump
        life = Mtimes(note, Disk(), lambda now=now: now)  # type: ignore[misc] # of this turn
        given_times += [life.fresh(ONE) for _ in range(downloads)]
    assert len(set(given_times)) == len(given_times)


def test_times_follow_the_clock(tmp_path: Path) -> None:
    now = NOW
    times = Mtimes(tmp_path / "note", Disk(), lambda: now)
    assert times.fresh(ONE) == NOW + 1  # an earlier process, of which nothing is known, may have given this second
    now += 100
    assert [times.fresh(ONE), times.fresh(ONE), times.fresh(OTHER)] == [now, now + 1, now]


def test_many_downloads_cost_one_write(tmp_path: Path) -> None:
    disk = CountingDisk()
    times = Mtimes(tmp_path / "note", disk, lambda: NOW)
    for _ in range(STRIDE_SECONDS + 1):
        times.fresh(ONE)
    assert disk.written == 1
    times.fresh(ONE)
    assert disk.written == 2


def test_a_clock_that_was_wrong_is_not_believed_for_ever(tmp_path: Path) -> None:
    note = tmp_path / "note"
    Mtimes(note, Disk(), lambda: NOW + 2 * MOST_AHEAD_SECONDS).fresh(ONE)
    assert Mtimes(note, Disk(), lambda: NOW).fresh(ONE) == NOW + 1


@pytest.mark.parametrize("text", [b"", b"soon", b"-5", b"9" * 21])
def test_a_note_that_is_none_is_no_note(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "note").write_bytes(text)
    assert Mtimes(tmp_path / "note", Disk(), lambda: NOW).fresh(ONE) == NOW + 1


def test_a_full_disk_keeps_nobody_from_downloading(tmp_path: Path) -> None:
    disk = CountingDisk(full=True)
    times = Mtimes(tmp_path / "note", disk, lambda: NOW)
    with capture_logs() as lines:
        assert [times.fresh(ONE), times.fresh(ONE)] == [NOW + 1, NOW + 2]
    assert [line["event"] for line in lines] == ["cannot note modification times"]


def test_the_longest_remembered_times_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mtimes, "MOST", 2)
    times = Mtimes(tmp_path / "note", Disk(), lambda: NOW)
    assert [times.fresh(one) - NOW for one in (ONE, OTHER, ONE, THIRD, ONE, OTHER)] == [1, 1, 2, 1, 3, 1]


def test_a_note_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=f"^{tmp_path} cannot be read: "):
        open_mtimes(tmp_path)

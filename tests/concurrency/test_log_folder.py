"""The log on disk: hour after hour, compressed, removed, moved away by others, on disks that fail."""

from __future__ import annotations

import errno
import gzip
import os
import stat
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from pkgserver_trio.logs.folder import LogFolder, tidy
from pkgserver_trio.logs.names import log_name

if TYPE_CHECKING:
    from pathlib import Path

HOUR = 3600
DAY = 24 * HOUR
START = 1772344800  # 2026-03-01, 06:00:00 UTC


class Clock:
    """The time in Unix seconds."""

    def __init__(self) -> None:
        self.now = float(START)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "logs"


@pytest.fixture
def log(folder: Path, clock: Clock) -> LogFolder:
    return LogFolder(folder, wall=clock)


def settle(log: LogFolder) -> None:
    """Return once the old files are tended."""
    log._tidying.join()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_each_hour_has_its_file_and_the_finished_one_is_compressed(folder: Path, log: LogFolder, clock: Clock) -> None:
    log.write(b"one\n")
    clock.now += HOUR - 1
    log.write(b"two\n")
    settle(log)
    assert names_in(folder) == [log_name(START)]
    clock.now += 1
    log.write(b"three\n")
    settle(log)
    assert names_in(folder) == [f"{log_name(START)}.gz", log_name(START + HOUR)]
    assert gzip.decompress((folder / f"{log_name(START)}.gz").read_bytes()) == b"one\ntwo\n"
    assert (folder / log_name(START + HOUR)).read_bytes() == b"three\n"
    log.close()


def test_only_the_last_ten_days_are_kept(folder: Path, log: LogFolder, clock: Clock) -> None:
    for _ in range(12):
        log.write(b"a line\n")
        settle(log)
        clock.now += DAY
    last = START + 11 * DAY
    kept = [f"{log_name(last - day * DAY)}.gz" for day in range(10, 0, -1)]
    assert names_in(folder) == [*kept, log_name(last)]
    log.close()


def test_a_restart_goes_on_in_the_file_and_compresses_what_an_earlier_process_left(
    folder: Path, log: LogFolder, clock: Clock
) -> None:
    log.write(b"one\n")
    settle(log)
    log.close()
    again = LogFolder(folder, wall=clock)
    again.write(b"two\n")
    settle(again)
    again.close()
    assert (folder / log_name(START)).read_bytes() == b"one\ntwo\n"
    clock.now += 3 * HOUR
    later = LogFolder(folder, wall=clock)
    later.write(b"three\n")
    settle(later)
    later.close()
    assert names_in(folder) == [f"{log_name(START)}.gz", log_name(clock.now)]


def test_a_file_that_was_moved_away_is_left_after_reopening(folder: Path, log: LogFolder) -> None:
    log.write(b"one\n")
    settle(log)
    (folder / log_name(START)).rename(folder / "moved")
    log.write(b"two\n")
    log.close()
    log.write(b"three\n")
    settle(log)
    log.close()
    assert (folder / "moved").read_bytes() == b"one\ntwo\n"
    assert (folder / log_name(START)).read_bytes() == b"three\n"


def test_a_clock_that_is_set_back_loses_nothing(folder: Path, log: LogFolder, clock: Clock) -> None:
    for lines in (b"one\n", b"two\n"):
        clock.now = START
        log.write(lines)
        settle(log)
        clock.now = START + HOUR
        log.write(b"later\n")
        settle(log)
    log.close()
    assert gzip.decompress((folder / f"{log_name(START)}.gz").read_bytes()) == b"one\ntwo\n"


def test_what_finds_no_room_leaves_no_half_line(folder: Path, log: LogFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    real, room = os.write, [3]

    def write(fd: int, piece: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(fd, piece[: room[0]])
        room[0] -= written
        return written

    log.write(b"one\n")
    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="No space left"):
        log.write(b"too long\n")
    room[0] = 100
    log.write(b"two\n")
    log.close()
    assert (folder / log_name(START)).read_bytes() == b"one\ntwo\n"


def test_a_folder_that_cannot_be_made_is_tried_again(folder: Path, log: LogFolder) -> None:
    folder.write_text("in the way")
    for _ in range(2):
        with pytest.raises(FileExistsError):
            log.write(b"lost\n")
    folder.unlink()
    log.write(b"kept\n")
    log.close()
    assert (folder / log_name(START)).read_bytes() == b"kept\n"


def test_a_link_in_the_place_of_the_file_is_not_followed(folder: Path, log: LogFolder, tmp_path: Path) -> None:
    folder.mkdir()
    (tmp_path / "precious").touch()
    (folder / log_name(START)).symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        log.write(b"a line\n")
    assert (tmp_path / "precious").read_bytes() == b""


@pytest.mark.parametrize("has_reader", [False, True])
def test_a_pipe_in_the_place_of_the_file_is_neither_waited_for_nor_written_to(
    folder: Path, log: LogFolder, *, has_reader: bool
) -> None:
    folder.mkdir()
    pipe = folder / log_name(START)
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK) if has_reader else None
    try:
        with pytest.raises(OSError, match="not a regular file" if has_reader else "No such device"):
            log.write(b"a line\n")
        assert reader is None or os.read(reader, 100) == b""
    finally:
        if reader is not None:
            os.close(reader)


@pytest.mark.parametrize("place", ["", ".gz", ".gz.new"])
def test_a_link_is_not_followed_where_files_are_compressed(folder: Path, tmp_path: Path, place: str) -> None:
    folder.mkdir()
    precious = tmp_path / "precious"
    precious.write_text("precious")
    finished = folder / log_name(START)
    finished.write_text("a line\n")
    link = finished.with_name(finished.name + place)
    link.unlink(missing_ok=True)
    link.symlink_to(precious)
    with capture_logs() as lines:
        tidy(folder, START + HOUR)
    assert precious.read_text() == "precious"
    told = [(line["path"], line["error"], line["failures"]) for line in lines]
    if place == ".gz.new":  # only a leftover has that name
        assert told == []
        assert names_in(folder) == [f"{finished.name}.gz"]
    else:
        assert told == [(str(finished), "Too many levels of symbolic links", 1)]
        assert sorted({finished.name, link.name}) == names_in(folder)


def test_one_file_that_cannot_be_tended_holds_up_no_other(folder: Path) -> None:
    folder.mkdir()
    old = [folder / log_name(START - day * DAY) for day in (20, 19)]
    finished = [folder / log_name(START - hour * HOUR) for hour in (3, 2)]
    old[0].mkdir()
    finished[0].mkdir()
    old[1].touch()
    finished[1].touch()
    with capture_logs() as lines:
        tidy(folder, START)
    assert [(line["path"], line["failures"]) for line in lines] == [(str(old[0]), 2)]
    assert names_in(folder) == [old[0].name, finished[0].name, f"{finished[1].name}.gz"]


def test_what_finds_no_room_to_be_compressed_is_left_as_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def copy(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder.mkdir()
    finished = folder / log_name(START)
    finished.write_text("a line\n")
    monkeypatch.setattr("shutil.copyfileobj", copy)
    with capture_logs() as lines:
        tidy(folder, START + HOUR)
    assert [line["error"] for line in lines] == ["No space left on device"]
    assert names_in(folder) == [finished.name]


def test_others_cannot_read_the_addresses_of_clients(folder: Path, log: LogFolder, clock: Clock) -> None:
    log.write(b"one\n")
    clock.now += HOUR
    settle(log)
    log.write(b"two\n")
    settle(log)
    log.close()
    modes = [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()]
    assert [mode & 0o007 for mode in modes] == [0, 0]


def test_files_of_others_are_let_be(folder: Path, log: LogFolder) -> None:
    folder.mkdir()
    (folder / "access.log").touch()
    log.write(b"a line\n")
    settle(log)
    log.close()
    assert names_in(folder) == [log_name(START), "access.log"]


def test_a_failure_while_old_files_are_tended_is_said(folder: Path) -> None:
    with capture_logs() as lines:
        tidy(folder, START)
    assert [line["error"] for line in lines] == ["No such file or directory"]


def test_old_files_are_tended_by_one_at_a_time(folder: Path, log: LogFolder, clock: Clock) -> None:
    class Busy:
        def is_alive(self) -> bool:
            return True

    log._tidying = Busy()  # type: ignore[assignment] # all that is asked of it
    log.write(b"one\n")
    clock.now += HOUR
    log.write(b"two\n")
    log.close()
    assert names_in(folder) == [log_name(START), log_name(START + HOUR)]


def test_a_machine_that_is_short_of_threads_is_logged_to_all_the_same(
    folder: Path, log: LogFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", start)
    log.write(b"a line\n")
    log.close()
    assert (folder / log_name(START)).read_bytes() == b"a line\n"


def test_a_file_that_cannot_be_closed_is_let_go_of(
    folder: Path, log: LogFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.close

    def close(fd: int) -> None:
        real(fd)
        raise OSError(errno.EIO, "Input/output error")

    log.write(b"one\n")
    settle(log)
    with monkeypatch.context() as patched:
        patched.setattr(os, "close", close)
        log.close()
    log.write(b"two\n")
    log.close()
    assert (folder / log_name(START)).read_bytes() == b"one\ntwo\n"

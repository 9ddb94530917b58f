"""Logs of nginx and everything that can happen to them."""

from __future__ import annotations

import errno
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import trio
from structlog.testing import capture_logs
from tests.disks import open_files

from pkgserver_trio.hits.bookmarks import Bookmark, Bookmarks
from pkgserver_trio.hits.file import HitFile
from pkgserver_trio.hits.tail import CUT_AT_BYTES, follow_hit_logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from trio.testing import MockClock

    from pkgserver_trio.hits.lines import Hit

#: Longer than the follower looks away, shorter than it listens to a log that was renamed.
MOMENT_SECONDS = 3


def line(number: int) -> str:
    """Return the line of a hit that is known by its size."""
    return f"{1_700_000_000 + number}.123 200 {number} GET /artifact/{number:040x}\n"


def lines(*numbers: int) -> str:
    return "".join(map(line, numbers))


@dataclass
class Follower:
    """What was heard of logs in one folder."""

    folder: Path
    heard: list[int] = field(default_factory=list)
    most_at_once: int = 0

    @property
    def log(self) -> Path:
        return self.folder / "hits.log"

    @property
    def bookmarks(self) -> Path:
        return self.folder / "positions.json"

    def write(self, text: str, log: Path | None = None) -> None:
        with (log or self.log).open("a") as file:
            file.write(text)

    def on_hits(self, hits: Sequence[Hit]) -> None:
        self.heard.extend(hit.size_bytes for hit in hits)
        self.most_at_once = max(self.most_at_once, len(hits))

    async def hears(self) -> list[int]:
        """Return what is heard within a moment, and forget it."""
        await trio.sleep(MOMENT_SECONDS)
        heard, self.heard = self.heard, []
        return heard

    @asynccontextmanager
    async def following(self, *logs: Path, cut_at_bytes: int = CUT_AT_BYTES) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.follow, logs or (self.log,), cut_at_bytes)
            yield
            nursery.cancel_scope.cancel()

    async def follow(self, logs: Sequence[Path], cut_at_bytes: int) -> None:
        await follow_hit_logs(logs, self.on_hits, bookmarks=self.bookmarks, cut_at_bytes=cut_at_bytes)


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    return Follower(tmp_path)


async def test_every_line_is_heard_once(follower: Follower, autojump_clock: MockClock) -> None:
    follower.write(lines(1, 2))
    async with follower.following():
        assert await follower.hears() == [1, 2]
        follower.write(lines(3))
        assert await follower.hears() == [3]
        assert await follower.hears() == []


async def test_a_line_may_arrive_in_two_parts(follower: Follower, autojump_clock: MockClock) -> None:
    whole = lines(1, 2)
    async with follower.following():
        for end in (10, len(line(1)), len(line(1)) + 1, len(whole) - 1):
            follower.log.write_text(whole[:end])
            assert await follower.hears() == ([1] if end == len(line(1)) else [])
        follower.log.write_text(whole)
        assert await follower.hears() == [2]


async def test_a_log_may_appear_later(follower: Follower, autojump_clock: MockClock) -> None:
    with capture_logs() as entries:
        async with follower.following():
            assert await follower.hears() == []
            follower.write(lines(1))
            assert await follower.hears() == [1]
    assert [entry["event"] for entry in entries] == ["there is no hit log to read: No such file or directory"]


async def test_several_logs_are_heard(follower: Follower, autojump_clock: MockClock) -> None:
    others = [follower.folder / "one", follower.folder / "two"]
    async with follower.following(*others):
        for number, log in enumerate(others):
            follower.write(lines(number), log)
        assert sorted(await follower.hears()) == [0, 1]


async def test_a_huge_log_is_heard_in_pieces_while_others_run(follower: Follower, autojump_clock: MockClock) -> None:
    count = 210_000
    other = follower.folder / "other"
    follower.write(lines(*range(count)))
    follower.write(lines(0), other)
    async with follower.following(follower.log, other):
        assert len(await follower.hears()) == count + 1
    assert follower.most_at_once < 2000


async def test_a_renamed_log_is_heard_until_nginx_leaves_it(follower: Follower, autojump_clock: MockClock) -> None:
    follower.write(lines(1))
    renamed = follower.folder / "hits.log.1"
    async with follower.following():
        assert await follower.hears() == [1]
        follower.log.rename(renamed)
        follower.write(lines(2), renamed)
        assert await follower.hears() == [2]
        follower.write(lines(3))
        follower.write(lines(4), renamed)
        assert await follower.hears() == [4, 3]
        follower.write(lines(5), renamed)
        assert await follower.hears() == [5]
        await trio.sleep(61)
        follower.write(lines(6), renamed)
        follower.write(lines(7))
        assert await follower.hears() == [7]


async def test_a_renamed_log_is_never_cut(follower: Follower, autojump_clock: MockClock) -> None:
    follower.write(lines(1))
    renamed = follower.folder / "hits.log.1"
    async with follower.following(cut_at_bytes=1000):
        await follower.hears()
        follower.log.rename(renamed)
        follower.write(lines(2))
        await follower.hears()
        follower.write(lines(*range(3, 100)), renamed)
        assert await follower.hears() == list(range(3, 100))
        assert renamed.stat().st_size > 1000


async def test_a_log_that_others_truncate_is_heard_from_its_beginning(
    follower: Follower, autojump_clock: MockClock
) -> None:
    follower.write(lines(1, 2))
    async with follower.following():
        assert await follower.hears() == [1, 2]
        follower.log.write_text(lines(3))
        assert await follower.hears() == [3]
        follower.log.write_text(lines(4, 5, 6, 7))  # it has overgrown where we were before we look
        assert await follower.hears() == [4, 5, 6, 7]
        follower.log.write_text("")
        follower.write(lines(8))
        assert await follower.hears() == [8]


async def test_a_large_log_is_cut_once_all_of_it_was_heard(follower: Follower, autojump_clock: MockClock) -> None:
    follower.write(lines(*range(20)))
    with follower.log.open("a") as nginx:
        async with follower.following(cut_at_bytes=1000):
            assert await follower.hears() == list(range(20))
            assert follower.log.stat().st_size == 0
            nginx.write(lines(20))
            nginx.flush()
            assert await follower.hears() == [20]
            assert follower.log.read_text() == lines(20)


async def test_a_log_with_an_unfinished_line_is_not_cut(follower: Follower, autojump_clock: MockClock) -> None:
    follower.write(lines(*range(20)) + line(20)[:10])
    async with follower.following(cut_at_bytes=1000):
        assert await follower.hears() == list(range(20))
        follower.write(line(20)[10:])
        assert await follower.hears() == [20]
        assert follower.log.stat().st_size == 0


async def test_what_comes_before_a_cut_prevents_it(
    follower: Follower, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = HitFile.cut
    late = [20, 21]

    def cut_later(file: HitFile, path: Path) -> bool:
        if late:
            follower.write(lines(late.pop(0)))
        return cut(file, path)

    follower.write(lines(*range(20)))
    monkeypatch.setattr(HitFile, "cut", cut_later)
    async with follower.following(cut_at_bytes=1000):
        assert await follower.hears() == list(range(22))
        assert follower.log.stat().st_size == 0


async def test_what_is_mostly_no_hit_log_is_never_cut(follower: Follower, autojump_clock: MockClock) -> None:
    follower.write(lines(1) + "somebody's diary\n" * 100)
    before = follower.log.read_bytes()
    with capture_logs() as entries:
        async with follower.following(cut_at_bytes=1000):
            assert await follower.hears() == [1]
    assert [entry["event"] for entry in entries][1:] == ["not truncated: most of it is no hit log"]
    assert follower.log.read_bytes() == before


@pytest.mark.parametrize(
    "garbage",
    ["\0" * 100 + "\n", "x" * 200_000 + "\n", "\n", "1.000 200 5\n", "\xff\xfe\n", "\0" * 65536 * 2 + "\n"],
    ids=len,
)
async def test_garbage_hides_no_line_after_it(follower: Follower, autojump_clock: MockClock, garbage: str) -> None:
    follower.write(lines(1) + garbage + lines(2))
    async with follower.following():
        assert await follower.hears() == [1, 2]
        follower.write(garbage + lines(3))
        assert await follower.hears() == [3]


async def test_the_end_of_a_line_that_is_too_long_is_no_line(follower: Follower, autojump_clock: MockClock) -> None:
    follower.write("x" * 65536 + lines(1, 2))
    async with follower.following():
        assert await follower.hears() == [2]


async def test_garbage_is_told_of_once(follower: Follower, autojump_clock: MockClock) -> None:
    with capture_logs() as entries:
        async with follower.following():
            for _ in range(3):
                follower.write("rubbish\n" * 10)
                await follower.hears()
    told = [entry for entry in entries if entry["event"] == "not a line of a hit log"]
    assert [entry["line"] for entry in told] == ["rubbish"]


@pytest.mark.parametrize("make", ["mkdir", "mkfifo"])
async def test_what_can_be_no_log_is_told_of_and_waited_out(
    follower: Follower, autojump_clock: MockClock, make: str
) -> None:
    getattr(os, make)(follower.log)
    with capture_logs() as entries:
        async with follower.following():
            assert await follower.hears() == []
            follower.log.rmdir() if make == "mkdir" else follower.log.unlink()
            follower.write(lines(1))
            assert await follower.hears() == [1]
    (told,) = (entry["event"] for entry in entries)
    assert "expected a file that nginx writes" in told


async def test_what_becomes_no_log_while_it_is_opened_is_told_of(
    follower: Follower, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def open_later(path: Path, flags: int) -> int:
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        return real(path, flags)

    follower.write(lines(1))
    monkeypatch.setattr("pkgserver_trio.hits.file.os.open", open_later)
    with capture_logs() as entries:
        async with follower.following():
            assert await follower.hears() == []
            assert open_files(follower.folder) == []
    assert "expected a file that nginx writes" in entries[0]["event"]


async def test_a_restart_goes_on_where_it_was(follower: Follower, autojump_clock: MockClock) -> None:
    follower.write(lines(1) + line(2)[:5])
    async with follower.following():
        assert await follower.hears() == [1]
    follower.write(line(2)[5:] + lines(3))
    async with follower.following():
        assert await follower.hears() == [2, 3]


async def test_a_restart_hears_all_of_another_log(follower: Follower, autojump_clock: MockClock) -> None:
    follower.write(lines(1, 2))
    async with follower.following():
        assert await follower.hears() == [1, 2]
    follower.log.rename(follower.folder / "hits.log.1")
    follower.write(lines(3, 4, 5))
    async with follower.following():
        assert await follower.hears() == [3, 4, 5]


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{", "7", '{"{log}": 7}', '{"{log}": [-1, ""]}', '{"{log}": [1, "ab"]}', '{"{log}": [1.5, "a"]}'),
        *(
            "[" * 100_000,
            '{"{log}": [7, ""]}',
            '{"{log}": ["1", "a"]}',
            '{"{log}": [true, ""]}',
            '{"{log}": [1, "\\u20ac"]}',
            '{"{log}": [5, 5]}',
        ),
    ],
)
async def test_lost_positions_mean_that_all_is_heard_again(
    follower: Follower, autojump_clock: MockClock, text: str
) -> None:
    follower.write(lines(1, 2))
    follower.bookmarks.write_text(text.replace("{log}", str(follower.log)))
    with capture_logs() as entries:
        async with follower.following():
            assert await follower.hears() == [1, 2]
    assert [entry["event"] for entry in entries] == ["positions in hit logs are lost"]
    assert Bookmarks(follower.bookmarks).of(follower.log).offset == len(lines(1, 2))


async def test_positions_that_cannot_be_saved_disturb_nothing(follower: Follower, autojump_clock: MockClock) -> None:
    follower.write(lines(1))
    follower.bookmarks.with_suffix(".new").mkdir()
    with capture_logs() as entries:
        async with follower.following():
            assert await follower.hears() == [1]
            follower.bookmarks.with_suffix(".new").rmdir()
            await follower.hears()
    assert [entry["event"] for entry in entries] == ["positions in hit logs cannot be saved"]
    assert Bookmarks(follower.bookmarks).of(follower.log) == Bookmark(len(line(1)), line(1).encode())


async def test_a_log_that_fails_to_be_read_goes_on_where_it_was(
    follower: Follower, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    follower.write(lines(1))
    async with follower.following():
        assert await follower.hears() == [1]
        with monkeypatch.context() as patch, capture_logs() as entries:
            patch.setattr("pkgserver_trio.hits.file.os.pread", fail)
            follower.write(lines(2))
            assert await follower.hears() == []
        assert {entry["event"] for entry in entries} == {"a hit log cannot be read: Input/output error"}
        assert await follower.hears() == [2]


async def test_a_new_log_that_fails_while_the_old_one_is_heard_goes_on_where_it_was(
    follower: Follower, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pread

    def fail_in_the_new_one(fd: int, size: int, offset: int) -> bytes:
        if os.path.samestat(os.fstat(fd), follower.log.stat()):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, size, offset)

    renamed = follower.folder / "hits.log.1"
    follower.write(lines(1))
    async with follower.following():
        assert await follower.hears() == [1]
        follower.log.rename(renamed)
        follower.write(lines(2))
        assert await follower.hears() == [2]
        with monkeypatch.context() as patch:
            patch.setattr("pkgserver_trio.hits.file.os.pread", fail_in_the_new_one)
            follower.write(lines(3))
            follower.write(lines(4), renamed)
            assert await follower.hears() == [4]
        assert await follower.hears() == [3]
    assert Bookmarks(follower.bookmarks).of(follower.log).offset == len(lines(2, 3))


async def test_a_log_that_cannot_be_cut_is_heard_all_the_same(
    follower: Follower, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("pkgserver_trio.hits.file.os.ftruncate", fail)
    follower.write(lines(*range(20)))
    with capture_logs() as entries:
        async with follower.following(cut_at_bytes=1000):
            assert await follower.hears() == list(range(20))
            follower.write(lines(20))
            assert await follower.hears() == [20]
    assert [entry["event"] for entry in entries] == ["a hit log cannot be truncated: Operation not permitted"]


async def test_a_log_of_which_nothing_was_read_yet_is_not_called_another(
    follower: Follower, autojump_clock: MockClock
) -> None:
    follower.write(lines(*range(20)))
    async with follower.following():
        assert await follower.hears() == list(range(20))
    with capture_logs() as entries:
        async with follower.following(cut_at_bytes=1000):
            assert await follower.hears() == []
            assert follower.log.stat().st_size > 1000
            follower.write(lines(20))
            assert await follower.hears() == [20]
            assert follower.log.stat().st_size == 0
    assert entries == []


async def test_no_descriptor_is_left_open(follower: Follower, autojump_clock: MockClock) -> None:
    follower.write(lines(1))
    async with follower.following(cut_at_bytes=10):
        await follower.hears()
        follower.log.rename(follower.folder / "old")
        follower.write(lines(2))
        await follower.hears()
    assert open_files(follower.folder) == []

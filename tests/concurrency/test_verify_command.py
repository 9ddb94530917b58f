"""The `verify` command: exit codes, what goes to which stream, and a bar for those who look at a terminal."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import sys
from typing import TYPE_CHECKING

import pytest
import trio
from tests.lofts import files_in, tarball

from pkgserver_trio.cli import run
from pkgserver_trio.storage.disk import Disk
from pkgserver_trio.storage.hashing import Hashing
from pkgserver_trio.storage.verified import Verified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pkgserver_trio.storage.disk import FileStat

MADE = [tarball(str(number), 1000) for number in range(4)]
SIZE = sum(made.size for made in MADE)
WRONG = MADE[0].resource.name


class Terminal(io.StringIO):
    """What is written is shown to somebody."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A storage root with four right files, named by the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JULIA_PKG_SERVER_STORAGE_ROOT", str(tmp_path / "store"))
    (tmp_path / "store" / "cache" / "artifact").mkdir(parents=True)
    for made in MADE:
        (tmp_path / "store" / "cache" / made.resource.name).write_bytes(made.body)
    return tmp_path / "store"


def damage(root: Path) -> None:
    (root / "cache" / WRONG).write_bytes(b"wrong")


def test_a_right_cache_is_exit_code_0_and_plain_progress(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify"]) == 0
    printed = capsys.readouterr()
    assert re.fullmatch(rf"verified 4 files, {SIZE} bytes, 0 wrong, \d+\.\d seconds\n", printed.out)
    assert [line[:4] for line in printed.err.splitlines()] == [" 25%", " 50%", " 75%", "100%"]
    assert "\x1b" not in printed.err
    assert files_in(root) == {f"cache/{made.resource.name}" for made in MADE}


def test_a_repaired_cache_is_known_as_verified_whole_and_one_that_was_only_looked_at_is_not(root: Path) -> None:
    damage(root)
    run(["verify"])
    assert not (root / "all-verified").exists()
    run(["verify", "--repair"])
    assert (root / "all-verified").exists()


def test_a_cache_with_a_wrong_file_that_cannot_be_moved_is_not_known_as_verified_whole(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(root)
    monkeypatch.setattr(Disk, "rename", refuse)
    assert run(["verify", "--repair"]) == 1
    assert not (root / "all-verified").exists()


def refuse(*_: object) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def test_a_wrong_cache_is_exit_code_1_until_it_is_repaired(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage(root)
    assert run(["verify"]) == 1
    assert f"wrong: {WRONG}: no tarball: " in capsys.readouterr().out
    assert run(["verify", "--repair"]) == 1
    assert "4 files, " in capsys.readouterr().out
    assert files_in(root / "quarantine") == {WRONG}
    assert run(["verify"]) == 0
    assert "3 files, " in capsys.readouterr().out


def test_a_terminal_shows_a_bar_that_findings_do_not_spoil(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(root)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert run(["verify"]) == 1
    shown = terminal.getvalue()
    assert "\r\x1b[K" in shown
    assert re.search(r"4 files  \[#+\]  100%  4 files, 0\.0 MB, \d+\.\d MB/s", shown)
    assert capsys.readouterr().out.startswith(f"wrong: {WRONG}: ")


def test_an_empty_cache_is_right(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for made in MADE:
        (root / "cache" / made.resource.name).unlink()
    assert run(["verify"]) == 0
    assert capsys.readouterr().out.startswith("verified 0 files, 0 bytes, 0 wrong, ")


@pytest.mark.parametrize("option", [[], ["--repair"]])
def test_a_missing_storage_root_is_a_clear_error_and_stays_missing(
    root: Path, capsys: pytest.CaptureFixture[str], option: list[str]
) -> None:
    nowhere = root / "nowhere"
    assert run(["--storage-root", str(nowhere), "verify", *option]) == 1
    expected = f"Error: nothing to verify: the storage root {nowhere} does not exist\n"
    assert capsys.readouterr() == ("", expected)
    assert not nowhere.exists()


def test_a_folder_that_is_no_storage_root_is_a_clear_error(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = root / "cache"
    assert run(["--storage-root", str(other), "verify", "--repair"]) == 1
    assert capsys.readouterr().err == f"Error: nothing to verify: the storage root {other} holds no folder cache\n"
    assert not (other / "verified.sqlite").exists()


def test_a_memory_that_cannot_be_opened_is_a_clear_error(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "verified.sqlite").mkdir()
    assert run(["verify", "--repair"]) == 1
    assert capsys.readouterr().err.startswith(f"Error: {root / 'verified.sqlite'} cannot be used: ")
    assert run(["verify"]) == 0, "without --repair nobody needs it"


def test_a_lack_of_descriptors_is_a_clear_error(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: Disk, folder: Path, unlisted: Callable[[OSError], None]) -> Iterator[tuple[str, FileStat]]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(folder))

    monkeypatch.setattr(Disk, "files", fail)
    assert run(["verify"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: the cache cannot be verified: [Errno 24] Too many open files: ")


def test_ctrl_c_is_exit_code_130_and_leaves_the_cache_as_it_is(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupted(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)
        await trio.sleep_forever()

    monkeypatch.setattr(Hashing, "whole", interrupted)
    assert run(["verify", "--repair"]) == 130
    assert files_in(root / "cache") == {made.resource.name for made in MADE}
    assert files_in(root / "quarantine") == set()


def test_a_repaired_cache_is_known_to_the_next_server(root: Path) -> None:
    assert run(["verify", "--repair"]) == 0
    memory = Verified(root / "verified.sqlite")
    for made in MADE:
        assert memory.knows(made.resource.name, Disk().stat_at(root / "cache" / made.resource.name))
    memory.close()

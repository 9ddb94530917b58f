"""What cannot be opened or made stops the start, and says which file it was."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pkgserver_trio.opening import StartError, empty, find_hit_logs, make_folders, open_ledger, open_verified

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def unlinkable(path: Path) -> None:
    raise PermissionError(1, "Operation not permitted", str(path))


def test_folders_are_made_and_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "kept").touch()
    make_folders(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "static", "temp", "quarantine"}
    assert (tmp_path / "cache" / "kept").exists()


def test_unfinished_work_is_removed_folders_and_links_too(tmp_path: Path) -> None:
    (tmp_path / "temp" / "folder").mkdir(parents=True)
    (tmp_path / "temp" / "file").touch()
    (tmp_path / "target").mkdir()
    (tmp_path / "temp" / "link").symlink_to(tmp_path / "target")
    empty(tmp_path / "temp")
    assert list((tmp_path / "temp").iterdir()) == []
    assert (tmp_path / "target").is_dir()


@pytest.mark.parametrize("begin", [make_folders, open_verified, open_ledger])
def test_what_is_in_the_way_is_named(tmp_path: Path, begin: Callable[[Path], object]) -> None:
    if begin is make_folders:
        (tmp_path / "it").touch()
    else:
        (tmp_path / "it").mkdir()
    with pytest.raises(StartError, match=str(tmp_path / "it")):
        begin(tmp_path / "it")


def test_what_cannot_be_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "unfinished").touch()
    monkeypatch.setattr("pathlib.Path.unlink", unlinkable)
    with pytest.raises(StartError, match="unfinished"):
        empty(tmp_path)


def test_a_hit_log_may_come_later_and_has_to_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    os.mkfifo(tmp_path / "fifo")
    names = [str(tmp_path / name) for name in ("log", "later")]
    assert [path.name for path in find_hit_logs(names)] == ["log", "later"]
    for wrong in (str(tmp_path), str(tmp_path / "fifo")):
        with pytest.raises(StartError, match="PKGSERVER_HIT_LOGS"):
            find_hit_logs([wrong])

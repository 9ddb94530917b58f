"""The file-system calls that no whole store can be made to show."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING

import pytest
import structlog

from pkgserver_trio.storage.disk import Disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_what_cannot_be_read_at_once_is_left_to_a_thread() -> None:
    reading, writing = os.pipe()  # which has no offsets, as some file systems have no RWF_NOWAIT
    os.write(writing, b"bytes")
    assert Disk().read_if_cached(reading, 5, 0) is None
    os.close(reading)
    os.close(writing)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("good/one", "bad/two"):
        path = tmp_path / name
        path.parent.mkdir()
        path.write_bytes(b"content")
    return tmp_path


class Listing:
    """What `os.scandir` gives, but that the folder called ``bad`` fails with an errno.

    It does so at one `step`: when it is listed, or when its entry ``aaa``, which comes first, is looked at.
    """

    name = "aaa"

    def __init__(self, code: int, step: str) -> None:
        self.error = OSError(code, os.strerror(code), "bad")
        self._step = step
        self._scandir = os.scandir

    @contextmanager
    def __call__(self, folder: Path) -> Iterator[Iterator[object]]:
        bad = folder.name == "bad"
        if bad:
            self._meet("scandir")
        with self._scandir(folder) as entries:
            yield chain([self] if bad else [], entries)

    def _meet(self, step: str) -> None:
        if step == self._step:
            raise self.error

    def is_dir(self, *, follow_symlinks: bool) -> bool:
        self._meet("is_dir")
        return False

    def is_file(self, *, follow_symlinks: bool) -> bool:
        return True

    def stat(self, *, follow_symlinks: bool) -> os.stat_result:
        raise self.error


STEPS = pytest.mark.parametrize(
    ("step", "found"),
    [("scandir", {"good/one"}), ("is_dir", {"good/one", "bad/two"}), ("stat", {"good/one", "bad/two"})],
)


@STEPS
@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ENOENT, errno.ENOTDIR])
def test_what_cannot_be_looked_at_is_told_and_hides_nothing_else(
    tree: Path, monkeypatch: pytest.MonkeyPatch, code: int, step: str, found: set[str]
) -> None:
    listing, unlisted = Listing(code, step), list[OSError]()
    monkeypatch.setattr(os, "scandir", listing)
    assert {name for name, _ in Disk().files(tree, unlisted.append)} == found
    assert unlisted == [listing.error]


@pytest.mark.parametrize(("code", "warnings"), [(errno.EIO, ["bad"]), (errno.ENOENT, [])])
def test_what_is_left_out_is_logged_unless_it_only_vanished(
    tree: Path, monkeypatch: pytest.MonkeyPatch, code: int, warnings: list[str]
) -> None:
    monkeypatch.setattr(os, "scandir", Listing(code, "scandir"))
    with structlog.testing.capture_logs() as logged:
        assert [name for name, _ in Disk().files(tree)] == ["good/one"]
    assert [event["path"] for event in logged] == warnings


@STEPS
def test_a_lack_of_descriptors_leaves_nothing_out(
    tree: Path, monkeypatch: pytest.MonkeyPatch, step: str, found: set[str]
) -> None:
    monkeypatch.setattr(os, "scandir", Listing(errno.EMFILE, step))
    with pytest.raises(OSError, match="Too many open files"):
        list(Disk().files(tree))

"""The file-system calls that no whole store can be made to show."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from pkgserver_trio.disk import Disk

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
    """What `os.scandir` gives, but that the folder called ``bad`` fails with an errno: itself, or what is in it."""

    def __init__(self, code: int, *, inside: bool) -> None:
        self._error = OSError(code, os.strerror(code))
        self._inside = inside
        self._scandir = os.scandir

    @contextmanager
    def __call__(self, folder: Path) -> Iterator[Iterator[object]]:
        if folder.name == "bad" and not self._inside:
            raise self._error
        with self._scandir(folder) as entries:
            yield (self if folder.name == "bad" else entry for entry in entries)

    path = "bad/two"

    def is_dir(self, *, follow_symlinks: bool) -> bool:
        return False

    def is_file(self, *, follow_symlinks: bool) -> bool:
        return True

    def stat(self, *, follow_symlinks: bool) -> os.stat_result:
        raise self._error


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ENOENT, errno.ENOTDIR])
def test_what_cannot_be_looked_at_is_left_out_and_the_rest_is_found(
    tree: Path, monkeypatch: pytest.MonkeyPatch, code: int, *, inside: bool
) -> None:
    monkeypatch.setattr(os, "scandir", Listing(code, inside=inside))
    assert [name for name, _ in Disk().files(tree)] == ["good/one"]


@pytest.mark.parametrize("inside", [True, False])
def test_a_lack_of_descriptors_leaves_nothing_out(tree: Path, monkeypatch: pytest.MonkeyPatch, *, inside: bool) -> None:
    monkeypatch.setattr(os, "scandir", Listing(errno.EMFILE, inside=inside))
    with pytest.raises(OSError, match="Too many open files"):
        list(Disk().files(tree))

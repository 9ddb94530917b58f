"""A disk that is really full: a small tmpfs, filled to its last byte, under the whole server."""

from __future__ import annotations

import errno
import os
import subprocess
from typing import TYPE_CHECKING

import httpx
import pytest
import structlog
from tests.conftest import require
from tests.log_state import restored_logs
from tests.web.site import until
from tests.web.tarball import build_tarball

from pkgserver_trio.logs.folder import LogFolder
from pkgserver_trio.logs.names import log_name
from pkgserver_trio.logs.outlet import Outlet
from pkgserver_trio.logs.setup import configure_logs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO
    from pathlib import Path

    from tests.web.site import Serve, Site

MB = 1_000_000
FIRST, LARGE = build_tarball(MB), build_tarball(3 * MB)
SECOND = build_tarball(MB - 100_000)  # the log takes some of what FIRST leaves
FILES = {made.path: made.body for made in (FIRST, SECOND, LARGE)}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Give the store's folder, a file system of 6 MB."""
    folder = tmp_path / "store"
    folder.mkdir()
    require("root", available=os.geteuid() == 0, how_to_get="run the tests as root")
    mount = ("mount", "-t", "tmpfs", "-o", f"size={6 * MB}", "tmpfs", folder)
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    require("tmpfs", available=mounted, how_to_get="run the tests where root may mount")
    try:
        yield folder
    finally:
        subprocess.run(("umount", "--lazy", folder), check=True)


@pytest.fixture
def log(disk: Path) -> Iterator[Path]:
    """Write the log to a file on the disk."""
    outlet = Outlet(LogFolder(disk, wall=lambda: 0))
    with restored_logs():
        configure_logs(outlet.put, level="info", log_format="json")
        yield disk / log_name(0)
    outlet.close()


def fill(ballast: Path, *, but_for: int = 0) -> None:
    """Take all space there is, but for so many bytes."""
    with ballast.open("ab", buffering=0) as file:
        assert write_all(file) == errno.ENOSPC
    os.truncate(ballast, ballast.stat().st_size - but_for)


def write_all(file: FileIO) -> int | None:
    while True:
        try:
            file.write(bytes(4096))
        except OSError as error:
            return error.errno


def empty(ballast: Path) -> None:
    os.truncate(ballast, 0)


def logged(log: Path) -> str:
    return log.read_text()


async def assert_whole(site: Site, path: str, *, hit: bool) -> None:
    answer = await site.client.get(path)
    assert (answer.status_code, answer.content) == (200, FILES[path])
    assert ("X-Cache-Miss" not in answer.headers) is hit
    await site.settle()


async def test_a_full_disk_refuses_what_does_not_fit_and_nothing_else(serve: Serve, disk: Path, log: Path) -> None:
    site = await serve(files=FILES)
    await site.warm(FIRST.path)

    fill(log)
    structlog.get_logger().warning("a line for which there is no room")
    refused = await site.client.get(LARGE.path)
    assert refused.status_code == 507
    assert "disk is full" in refused.text
    assert refused.headers["Retry-After"]
    await site.settle()
    assert site.unfinished == []
    await assert_whole(site, FIRST.path, hit=True)  # nobody was evicted for what would not have fitted

    await assert_whole(site, SECOND.path, hit=False)  # which fits where FIRST was
    assert site.cached == {SECOND.path}
    await assert_whole(site, SECOND.path, hit=True)

    before = logged(log)  # FIRST may have left room for a line or two
    empty(log)
    for hit in (False, True):
        await assert_whole(site, LARGE.path, hit=hit)
    assert site.cached == {SECOND.path, LARGE.path}
    await until(lambda: f'"resource": "{LARGE.path[1:]}"' in logged(log))
    await until(lambda: '"log lines were lost"' in before + logged(log))


async def test_a_disk_that_fills_up_breaks_the_answer_off_and_keeps_nothing_of_it(serve: Serve, disk: Path) -> None:
    site = await serve(files=FILES)
    await site.warm(FIRST.path)
    fill(disk / "ballast", but_for=3 * MB // 2)
    with pytest.raises(httpx.RemoteProtocolError):
        await site.client.get(LARGE.path)
    await site.settle()
    assert site.unfinished == []
    await assert_whole(site, FIRST.path, hit=True)
    empty(disk / "ballast")
    await assert_whole(site, LARGE.path, hit=False)
    assert site.cached == {FIRST.path, LARGE.path}


async def test_what_was_kept_on_a_full_disk_is_remembered_as_verified(serve: Serve, disk: Path) -> None:
    site = await serve(files=FILES)
    await site.warm(FIRST.path)
    fill(disk / "ballast")
    await assert_whole(site, SECOND.path, hit=False)
    await site.stop()

    again = await serve(files={})  # on a disk that is still full
    await assert_whole(again, SECOND.path, hit=True)
    assert list(again.library.store.suspects()) == []

from __future__ import annotations

import errno
import fcntl
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from pkgserver_trio.storage.lock_sign import is_draining
from pkgserver_trio.storage.store_lock import StoreLockedError, owned

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock


async def test_a_second_owner_waits_ten_seconds_and_names_the_first(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with owned(tmp_path):
        with pytest.raises(StoreLockedError) as caught:
            async with owned(tmp_path):
                pytest.fail("two owners")
    assert trio.current_time() == pytest.approx(10, abs=0.2)
    for part in (str(tmp_path), f"host {socket.gethostname()}", f"pid {os.getpid()}", "started 2"):
        assert part in str(caught.value)


async def test_the_lock_is_free_after_its_owner_left(tmp_path: Path, autojump_clock: MockClock) -> None:
    for _ in range(2):
        async with owned(tmp_path):
            pass
    with pytest.raises(ValueError, match="failed inside"):
        async with owned(tmp_path):
            raise ValueError("failed inside")
    async with owned(tmp_path):
        assert trio.current_time() == 0


async def test_a_waiting_owner_gets_the_lock_that_becomes_free(tmp_path: Path, autojump_clock: MockClock) -> None:
    async def own_for(seconds: float, *, task_status: trio.TaskStatus[None]) -> None:
        async with owned(tmp_path):
            task_status.started()
            await trio.sleep(seconds)

    async with trio.open_nursery() as nursery:
        await nursery.start(own_for, 7)
        async with owned(tmp_path):
            assert trio.current_time() == pytest.approx(7, abs=0.2)


async def test_an_owner_that_did_not_sign_is_unknown(tmp_path: Path, autojump_clock: MockClock) -> None:
    with (tmp_path / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StoreLockedError, match="an unknown process"):
            async with owned(tmp_path, wait_seconds=0):
                pytest.fail("two owners")


async def test_the_signature_of_an_earlier_owner_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("x" * 500)
    async with owned(tmp_path):
        assert (tmp_path / ".lock").read_text().startswith(f"host {socket.gethostname()}, pid {os.getpid()}, started ")


async def test_an_owner_that_was_told_to_end_says_until_when(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    async with owned(tmp_path) as ownership:
        before = lock.read_text()
        assert not is_draining(lock)
        ownership.announce_end(20)
        assert is_draining(lock)
        assert lock.read_text().startswith(before.rstrip())
    assert not is_draining(lock)


async def test_a_file_system_without_locks_is_a_clear_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StoreLockedError, match="does not support flock"):
        async with owned(tmp_path):
            pytest.fail("owned without a lock")


async def test_another_failure_of_the_lock_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OSError, match="broken"):
        async with owned(tmp_path):
            pytest.fail("owned without a lock")


async def test_a_root_that_cannot_be_opened_is_a_clear_refusal(tmp_path: Path) -> None:
    with pytest.raises(StoreLockedError, match="cannot be owned"):
        async with owned(tmp_path / "missing"):
            pytest.fail("owned nothing")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give a folder that can be removed and made again."""
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


def remove(root: Path) -> None:
    (root / ".lock").unlink()
    root.rmdir()


def make_anew(root: Path) -> None:
    remove(root)
    root.mkdir()


async def assert_owned(root: Path) -> None:
    with pytest.raises(StoreLockedError, match=f"pid {os.getpid()}"):
        async with owned(root, wait_seconds=0):
            pytest.fail("two owners")


async def test_a_root_that_was_made_anew_is_owned_again(root: Path, autojump_clock: MockClock) -> None:
    async with owned(root) as ownership, trio.open_nursery() as nursery:
        nursery.start_soon(ownership.keep)
        changes: list[Callable[[Path], object]] = [Path.stat, make_anew, lambda root: (root / ".lock").unlink()]
        for change in changes:
            change(root)
            await trio.sleep(11)
            await assert_owned(root)
        nursery.cancel_scope.cancel()
    async with owned(root, wait_seconds=0):
        pass


async def test_a_new_root_that_another_owns_ends_the_former_owner(root: Path, autojump_clock: MockClock) -> None:
    async with owned(root) as former:
        make_anew(root)
        async with owned(root):
            with pytest.raises(StoreLockedError, match="is in use by host"):
                await former.keep()


def make_unlockable(root: Path) -> None:
    (root / ".lock").mkdir(parents=True)  # it cannot be opened for writing


def make_lockable(root: Path) -> None:
    (root / ".lock").rmdir()


async def test_while_there_is_nothing_to_own_the_owner_waits(root: Path, autojump_clock: MockClock) -> None:
    async with owned(root) as ownership, trio.open_nursery() as nursery:
        nursery.start_soon(ownership.keep)
        remove(root)
        await trio.sleep(11)
        make_unlockable(root)
        await trio.sleep(11)
        make_lockable(root)
        await trio.sleep(11)
        await assert_owned(root)
        nursery.cancel_scope.cancel()

"""One store has one owner: an advisory lock on `<root>/.lock`, taken before anything in the store is touched.

Where the file vanished with the storage root, the lock is taken again, on the new one. In between another server can
come to own it: then this one ends. Until then neither can serve a wrong byte, since files enter `cache/` whole.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
import trio

from pkgserver_trio.storage.lock_sign import LOCK_NAME, latest_end, sign_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

#: How often a held lock is tried again. flock(2) has no wait with a time limit that leaves no thread behind.
RETRY_SECONDS = 0.1
#: How often the owner sees whether it still is.
_CHECK_SECONDS = 10


class StoreLockedError(Exception):
    """Another process owns the store, or the file system cannot say; the text names it."""


class Ownership:
    """The lock, as long as `fd` is open: on the file that had the name `path` when it was taken."""

    def __init__(self, path: Path, fd: int) -> None:
        self.fd = fd
        self._path = path
        self._started = datetime.now(UTC)

    def sign(self) -> None:
        """Say in the file whose it is."""
        _write(self.fd, sign_of(self._started))

    def announce_end(self, seconds: float) -> None:
        """Say in the file that its owner was told to end, and has `seconds` for it."""
        _write(self.fd, sign_of(self._started, latest_end(seconds)))

    async def keep(self) -> None:
        """Take the lock again whenever it went with the storage root, for ever.

        Raises StoreLockedError when another process was quicker.
        """
        while True:
            await trio.sleep(_CHECK_SECONDS)
            try:
                await trio.to_thread.run_sync(self._renew)
            except OSError as error:
                structlog.get_logger().warning("cannot see who owns the store", error=str(error))

    def _renew(self) -> None:
        if not self._is_lost():
            return
        fd = _open(self._path)
        try:
            _lock_now(fd, self._path)
        except (OSError, StoreLockedError):
            os.close(fd)
            raise
        os.close(self.fd)
        self.fd = fd
        self.sign()
        structlog.get_logger().warning("the lock of the store was gone: it is taken again")

    def _is_lost(self) -> bool:
        try:
            return not os.path.samestat(self._path.stat(), os.fstat(self.fd))
        except FileNotFoundError:
            return self._path.parent.exists()  # else there is nothing to own


@asynccontextmanager
async def owned(root: Path, *, wait_seconds: float = 10) -> AsyncIterator[Ownership]:
    """Own the store at `root` while inside; the kernel lets go when the process dies, however it dies.

    Raises StoreLockedError after `wait_seconds`, naming the owner's host, pid and start time.
    """
    path = root / LOCK_NAME
    try:
        ownership = Ownership(path, _open(path))
    except OSError as error:
        raise StoreLockedError(f"the store {root} cannot be owned: {path}: {error.strerror}") from error
    try:
        await _lock(ownership.fd, path, wait_seconds)
        ownership.sign()
        yield ownership
    finally:
        os.close(ownership.fd)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


async def _lock(fd: int, path: Path, wait_seconds: float) -> None:
    deadline = trio.current_time() + wait_seconds
    while trio.current_time() < deadline:
        if _try_lock(fd, path):
            return
        await trio.sleep(RETRY_SECONDS)
    _lock_now(fd, path)


def _lock_now(fd: int, path: Path) -> None:
    if not _try_lock(fd, path):
        owner = os.pread(fd, 200, 0).decode("utf-8", "replace").strip() or "an unknown process"
        raise StoreLockedError(f"the store {path.parent} is in use by {owner}")


def _try_lock(fd: int, path: Path) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in {errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS}:
            raise StoreLockedError(
                f"the file system of {path.parent} does not support flock, so the store cannot be "
                f"protected from a second server: use a local file system"
            ) from error
        raise
    return True


def _write(fd: int, sign: str) -> None:
    with contextlib.suppress(OSError):  # a full disk can still serve what is on it
        os.ftruncate(fd, 0)
        os.pwrite(fd, sign.encode(), 0)

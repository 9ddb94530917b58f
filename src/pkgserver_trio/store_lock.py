"""One store has one owner: an advisory lock on `<root>/.lock`, taken before anything in the store is touched."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

#: How often a held lock is tried again. flock(2) has no wait with a time limit that leaves no thread behind.
RETRY_SECONDS = 0.1


class StoreLockedError(Exception):
    """Another process owns the store, or the file system cannot say; the text names it."""


@asynccontextmanager
async def owned(root: Path, *, wait_seconds: float = 10) -> AsyncIterator[None]:
    """Own the store at `root` while inside; the kernel lets go when the process dies, however it dies.

    Raises StoreLockedError after `wait_seconds`, naming the owner's host, pid and start time.
    """
    path = root / ".lock"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreLockedError(f"the store {root} cannot be owned: {path}: {error.strerror}") from error
    try:
        await _lock(fd, path, wait_seconds)
        _sign(fd)
        yield
    finally:
        os.close(fd)


async def _lock(fd: int, path: Path, wait_seconds: float) -> None:
    deadline = trio.current_time() + wait_seconds
    while not _try_lock(fd, path):
        if trio.current_time() >= deadline:
            owner = os.pread(fd, 200, 0).decode("utf-8", "replace").strip() or "an unknown process"
            raise StoreLockedError(f"the store {path.parent} is in use by {owner}")
        await trio.sleep(RETRY_SECONDS)


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


def _sign(fd: int) -> None:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    with contextlib.suppress(OSError):  # a full disk can still serve what is on it
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"host {socket.gethostname()}, pid {os.getpid()}, started {started}\n".encode(), 0)

"""Files that are being read: a shared descriptor, and reads that never make the event loop wait for the disk."""

from __future__ import annotations

import errno
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from pkgserver_trio.errors import BrokenOffError
from pkgserver_trio.trouble import Trouble, trouble_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pkgserver_trio.storage.disk import Disk, FileStat

#: Bytes read or written in one go: a hop to a thread costs 65 us, so smaller pieces would be mostly hops (measured).
PIECE_BYTES = 256 * 1024
#: What the readers of one file may hold of it together, if they are many; each at least so much.
_SHARED_BYTES = 8 * 1024 * 1024
_LEAST_BYTES = 64 * 1024


class OpenFile:
    """A descriptor that several readers share: closed when the last of them releases it."""

    def __init__(self, disk: Disk, fd: int) -> None:
        self.disk = disk
        self.fd = fd
        self._holders = 1

    @property
    def closed(self) -> bool:
        """All readers have let go."""
        return not self._holders

    @property
    def holders(self) -> int:
        """How many share it."""
        return self._holders

    def hold(self) -> OpenFile:
        """Count one more reader; every `hold` is answered by one `release`."""
        if not self._holders:
            raise ValueError("the file is closed")
        self._holders += 1
        return self

    def release(self) -> None:
        """Let go; the last one closes."""
        self._holders -= 1
        if not self._holders:
            self.disk.close(self.fd)

    async def read(self, offset: int, stop: int) -> bytes:
        """Read some bytes from `offset` on, below `stop` and at most `PIECE_BYTES`; empty only at the end of the file.

        Direct when the page cache has them, in a thread when the disk has to be asked. Who is blocked holds its piece:
        so a crowd's are smaller.
        """
        size = min(stop - offset, PIECE_BYTES, max(_SHARED_BYTES // max(self._holders, 1), _LEAST_BYTES))
        piece = self.disk.read_if_cached(self.fd, size, offset)
        if piece is None:
            return await trio.to_thread.run_sync(self.disk.read, self.fd, size, offset)
        await trio.lowlevel.checkpoint()
        return piece

    def sha256(self, size: int) -> str:
        """Return the SHA-256 (64 hex) of the whole file, which has `size` bytes. Blocks. Raises OSError."""
        digest = hashlib.sha256()
        offset = 0
        while offset < size:
            piece = self.disk.read(self.fd, min(PIECE_BYTES, size - offset), offset)
            if not piece:
                raise OSError(errno.EIO, "the file has become shorter than it was")
            digest.update(piece)
            offset += len(piece)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An open, whole file of the cache; whoever got it closes it."""

    file: OpenFile
    stat: FileStat
    doubt: Callable[[], Awaitable[None]]
    """Tell the store that the file cannot be read."""

    @property
    def size_bytes(self) -> int:
        """The whole size."""
        return self.stat.size_bytes

    @property
    def mtime_seconds(self) -> int:
        """The modification time in whole seconds since the epoch, as HTTP counts."""
        return self.stat.mtime_ns // 1_000_000_000

    async def read(self, offset: int, stop: int) -> bytes:
        """Read some bytes from `offset` on, below `stop`; empty only when the file has become too short.

        Raises BrokenOffError when it cannot be read; the next request for it then gets another one.
        """
        try:
            return await self.file.read(offset, stop)
        except OSError as error:
            failure = error
        if trouble_of(failure) is Trouble.BROKEN:
            await self.doubt()
        raise BrokenOffError(f"the disk failed: {failure.strerror}") from failure

    def close(self) -> None:
        """Let go of the file."""
        self.file.release()

"""The verification of a whole cache, beside a running server or without one.

1. Nothing of the server's is needed or taken: no lock, no `temp/`. Files may appear, change and vanish meanwhile.
2. A file is condemned by its content as it was opened, so it is moved only while its name still holds that very file.
   What slips in between is a whole file in quarantine: the server fetches it again. (Inside the server nothing does:
   its own `Store` is the remedy.)
3. The listing is streamed: memory does not grow with the cache.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import trio

from pkgserver_trio.storage.cache_files import FoundFile
from pkgserver_trio.storage.findings import Finding, Tally, Verdict
from pkgserver_trio.storage.remedies import Remedies
from pkgserver_trio.trouble import Trouble, trouble_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pkgserver_trio.resource import Resource
    from pkgserver_trio.storage.cache_files import CacheFiles
    from pkgserver_trio.storage.disk import FileStat
    from pkgserver_trio.storage.hashing import Hashing
    from pkgserver_trio.storage.open_file import OpenFile
    from pkgserver_trio.storage.verified import Verified

#: Files listed per visit to a thread.
_BATCH = 500
#: Files under way for each processor: while one is hashed, another is opened or moved.
_AHEAD = 2


class Remedy(Protocol):
    """What is done with a file that was checked as it was at `stat`, unless another has come in its place."""

    async def admit(self, resource: Resource, stat: FileStat) -> None:
        """Take it for right. Raises OSError."""

    async def quarantine(self, resource: Resource, stat: FileStat) -> bool:
        """Move it away; False when it is not that file any more. Raises OSError."""


class Repair:
    """The remedy of whoever has no store."""

    def __init__(self, cache: CacheFiles, memory: Verified) -> None:
        self._remedies = Remedies(cache, memory)

    async def admit(self, resource: Resource, stat: FileStat) -> None:
        """Remember it. Raises OSError."""
        await trio.to_thread.run_sync(self._remedies.admit, resource, stat)

    async def quarantine(self, resource: Resource, stat: FileStat) -> bool:
        """Forget it and move it. Raises OSError."""
        return await trio.to_thread.run_sync(self._remedies.quarantine, resource, stat)


class Verification:
    """Hashes every file of the cache. With a `remedy` it repairs: moves wrong files away and remembers right ones.

    `tell` gets a line for everything that an operator should look at. Methods raise OSError when the process
    runs short of what it needs to go on.
    """

    def __init__(self, cache: CacheFiles, hashing: Hashing, remedy: Remedy | None, tell: Callable[[str], None]) -> None:
        self.tally = Tally()
        self._cache = cache
        self._hashing = hashing
        self._remedy = remedy
        self._tell = tell

    async def survey(self) -> Tally:
        """Return how much there is to check."""
        total = Tally()
        listing = self._cache.list(lambda _: None)  # `run` tells of what cannot be listed
        while batch := await _take(listing):
            for found in batch:
                if found.resource is not None:
                    total.files += 1
                    total.size_bytes += found.stat.size_bytes
        return total

    async def run(self, advance: Callable[[Tally], None]) -> None:
        """Check all files, calling `advance` with the tally after each."""
        unlisted: list[OSError] = []
        listing = self._cache.list(unlisted.append)
        send, receive = trio.open_memory_channel[FoundFile](0)
        async with trio.open_nursery() as nursery, send, receive:
            for _ in range(_AHEAD * (os.cpu_count() or 1)):
                nursery.start_soon(self._work, receive.clone(), advance)
            while batch := await _take(listing):
                for found in batch:
                    await send.send(found)
        for error in unlisted:
            if not isinstance(error, FileNotFoundError):
                self._conclude(Finding(Verdict.UNLISTED, str(error.filename), str(error.strerror)), 0)

    async def _work(self, files: trio.MemoryReceiveChannel[FoundFile], advance: Callable[[Tally], None]) -> None:
        async with files:
            async for found in files:
                if found.resource is None:
                    self._conclude(Finding(Verdict.UNKNOWN, found.name), 0)
                else:
                    await self._check(found.resource, found.stat)
                advance(self.tally)

    async def _check(self, resource: Resource, stat: FileStat) -> None:
        try:
            file, opened = await trio.to_thread.run_sync(self._cache.open, resource)
        except FileNotFoundError:
            return
        except OSError as error:  # which says nothing of its content: it may be another user's
            self._conclude(Finding(Verdict.WRONG, resource.name, _unreadable(error)), stat.size_bytes)
            return
        fault = await self._fault_of(resource, file, opened.size_bytes)
        self._conclude(await self._act_on(resource, opened, fault), opened.size_bytes)

    async def _fault_of(self, resource: Resource, file: OpenFile, size: int) -> str | None:
        """Hash the file, close it, and return what is wrong with it."""
        try:
            return await self._hashing.fault_of(file, size, resource)
        except OSError as error:
            return _unreadable(error)
        finally:
            file.release()

    async def _act_on(self, resource: Resource, stat: FileStat, fault: str | None) -> Finding:
        try:
            held = await trio.to_thread.run_sync(self._cache.holds, resource, stat)  # rule 2
            if fault is None and held and self._remedy is not None:
                await self._remedy.admit(resource, stat)
        except OSError as error:
            return Finding(Verdict.WRONG, resource.name, _unreadable(error))
        if fault is None:
            return Finding(Verdict.RIGHT, resource.name)
        return await self._condemn(resource, stat, fault) if held else Finding(Verdict.CHANGED, resource.name)

    async def _condemn(self, resource: Resource, stat: FileStat, fault: str) -> Finding:
        if self._remedy is None:
            return Finding(Verdict.WRONG, resource.name, fault)
        try:
            moved = await self._remedy.quarantine(resource, stat)
        except OSError as error:
            return Finding(Verdict.WRONG, resource.name, f"{fault}; it cannot be moved: {error.strerror}")
        return Finding(Verdict.MOVED, resource.name, fault) if moved else Finding(Verdict.CHANGED, resource.name)

    def _conclude(self, finding: Finding, size_bytes: int) -> None:
        self.tally.count(finding.verdict, size_bytes)
        if finding.line is not None:
            self._tell(finding.line)


async def _take(listing: Iterator[FoundFile]) -> list[FoundFile]:
    """Return the next files of a listing, none at its end."""
    return await trio.to_thread.run_sync(lambda: list(islice(listing, _BATCH)))


def _unreadable(error: OSError) -> str:
    """Say what is wrong with a file; raise the error again when it says nothing of the file."""
    if trouble_of(error) is Trouble.SCARCE:
        raise error
    return f"unreadable: {error.strerror}"

"""Downloads: probe race, reserve, stream and hash, commit; one flight per resource, whoever asks for it.

The hasher is one more reader of the growing file: it reads back what was written, so what is verified is what is on
disk, and neither the network nor a slow client waits for it.
"""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING

import structlog
import trio

from pkgserver_trio.coalesce import Coalescer
from pkgserver_trio.errors import (
    AbsentError,
    BrokenError,
    CorruptError,
    ResourceUnavailableError,
    UpstreamError,
    most_telling,
    verdict,
)
from pkgserver_trio.flight import Flight
from pkgserver_trio.tree_hash import TarballError, TreeHasher

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pkgserver_trio.open_file import OpenFile
    from pkgserver_trio.progress import State
    from pkgserver_trio.reservation import Reservation
    from pkgserver_trio.resource import Resource
    from pkgserver_trio.store import Store
    from pkgserver_trio.tar_stream import TarLimits
    from pkgserver_trio.tree_hash import TreeHashes
    from pkgserver_trio.upstream import Head, StorageServer

#: Bytes that the hasher takes per visit to its thread.
_HASH_BYTES = 1024 * 1024
#: How many broken-off downloads are remembered. They matter for a second: until the clock gives another time.
_MAX_BROKEN = 10_000


class Hashing:
    """Tree hashes of files on disk, in threads: no more at a time than there are processors to run them."""

    def __init__(self, limits: TarLimits) -> None:
        self._limits = limits
        self._threads = trio.CapacityLimiter(os.cpu_count() or 1)

    async def follow(self, flight: Flight, file: OpenFile) -> TreeHashes:
        """Hash a file while it grows, to its end. Raises TarballError as soon as it is known to be none."""
        hasher = TreeHasher(self._limits)
        offset = 0
        while True:
            state = await flight.progress.wait_for(partial(_has_more, offset=offset))
            if offset == state.written_bytes:
                return await trio.to_thread.run_sync(hasher.finish, limiter=self._threads)
            offset = await self._feed(hasher, file, offset, state.written_bytes)

    async def whole(self, file: OpenFile, size: int) -> TreeHashes:
        """Hash a whole file of `size` bytes. Raises TarballError."""
        hasher = TreeHasher(self._limits)
        offset = 0
        while offset < size:
            offset = await self._feed(hasher, file, offset, size)
        return await trio.to_thread.run_sync(hasher.finish, limiter=self._threads)

    async def _feed(self, hasher: TreeHasher, file: OpenFile, offset: int, stop: int) -> int:
        def feed() -> int:
            piece = file.disk.read(file.fd, min(_HASH_BYTES, stop - offset), offset)
            if not piece:
                raise TarballError("the file became shorter while it was read")
            hasher.feed(piece)
            return offset + len(piece)

        return await trio.to_thread.run_sync(feed, limiter=self._threads)


class Downloads:
    """All flights. They run in `nursery`, which outlives every request."""

    def __init__(
        self,
        nursery: trio.Nursery,
        servers: Sequence[StorageServer],
        store: Store,
        hashing: Hashing,
        *,
        max_downloads: int,
    ) -> None:
        self.flights: Coalescer[Resource, Flight] = Coalescer(nursery)
        self._servers = tuple(servers)
        self._store = store
        self._hashing = hashing
        self._broken_mtimes: dict[Resource, int] = {}
        self._slots = trio.CapacityLimiter(max_downloads)
        self._log = structlog.get_logger()

    def join(self, resource: Resource) -> Flight:
        """Return the flight of `resource`, begun now if there is none. No checkpoint."""
        return self.flights.join(resource, lambda: Flight(resource, self._fresh_mtime(resource), self._download))

    def _fresh_mtime(self, resource: Resource) -> int:
        """Return a time that no broken-off answer had: its validators must not match other bytes of the same size."""
        return max(int(time.time()), self._broken_mtimes.get(resource, 0) + 1)

    async def probe(self, resource: Resource) -> Head:
        """Ask the storage servers for a resource without downloading it. Raises ResourceUnavailableError."""
        failures: list[UpstreamError] = []
        won = await race_probes(self._servers, resource, failures)
        if won is None:
            raise verdict(resource.name, failures)
        return won[1]

    async def _download(self, flight: Flight) -> None:
        async with self._slots:
            with self._store.reserve(flight.resource, flight.mtime_seconds) as reservation:
                flight.file = reservation.file
                server = await self._deliver(flight, reservation)
                await self._commit(reservation)
        self._log.info(
            "downloaded",
            resource=flight.resource.name,
            server=server,
            size_bytes=reservation.written_bytes,
            kept=reservation.fits,
        )

    async def _commit(self, reservation: Reservation) -> None:
        try:
            await reservation.commit()
        except ResourceUnavailableError as failure:  # the readers have what they asked for: nobody else would tell
            self._log.warning("downloaded, but not kept", resource=reservation.resource.name, error=str(failure))
            raise

    async def _deliver(self, flight: Flight, reservation: Reservation) -> str:
        """Try the servers until one delivers what is verified; return its name."""
        failures: list[UpstreamError] = []
        while True:
            failed = {failure.server for failure in failures}
            rest = [server for server in self._servers if server.name not in failed]
            won = await race_probes(rest, flight.resource, failures)
            if won is None:
                raise verdict(flight.resource.name, failures)
            server = won[0]
            try:
                await self._transfer(flight, reservation, server)
            except UpstreamError as failure:
                self._log.warning("download failed", resource=flight.resource.name, error=str(failure))
                failures.append(failure)
                _hold_against(server, failure)
                if flight.progress.taken:
                    self._remember_broken(flight)
                    raise verdict(flight.resource.name, failures) from failure
                flight.progress.withdraw()
                await reservation.restart()
            else:
                return server.name

    def _remember_broken(self, flight: Flight) -> None:
        self._broken_mtimes[flight.resource] = flight.mtime_seconds
        if len(self._broken_mtimes) > _MAX_BROKEN:
            del self._broken_mtimes[next(iter(self._broken_mtimes))]

    async def _transfer(self, flight: Flight, reservation: Reservation, server: StorageServer) -> None:
        """Stream one server's copy to disk, and verify it. Raises UpstreamError, ResourceUnavailableError."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._receive, flight, reservation, server)
                nursery.start_soon(self._verify, flight, reservation, server)
        except BaseExceptionGroup as group:
            raise most_telling(group) from None
        flight.progress.verify()

    async def _receive(self, flight: Flight, reservation: Reservation, server: StorageServer) -> None:
        async with server.open_body(flight.resource.path) as (head, pieces):
            if head.size_bytes is not None:
                await reservation.expect(head.size_bytes)
            flight.progress.begin(head.size_bytes)
            async for piece in pieces:
                await reservation.write(piece)
                flight.progress.advance(len(piece))
        if head.size_bytes not in {None, reservation.written_bytes}:
            raise BrokenError(server.name, f"sent {reservation.written_bytes} of {head.size_bytes} bytes")
        flight.progress.arrive()

    async def _verify(self, flight: Flight, reservation: Reservation, server: StorageServer) -> None:
        try:
            hashes = await self._hashing.follow(flight, reservation.file)
        except TarballError as error:
            raise CorruptError(server.name, str(error)) from error
        if not hashes.include(flight.resource.tree_hash):
            raise CorruptError(server.name, f"sent another tree, {hashes.skip_empty}")


def _has_more(state: State, *, offset: int) -> bool:
    return state.written_bytes > offset or state.arrived


async def race_probes(
    servers: Collection[StorageServer], resource: Resource, failures: list[UpstreamError]
) -> tuple[StorageServer, Head] | None:
    """Ask all `servers` at once; return the first that has the resource and cancel the others.

    None when none has it; each server's failure is added to `failures`. A server that rests after repeated failures
    counts as failed; if all rest, the one that has to for the shortest time is asked.
    """
    winners: list[tuple[StorageServer, Head]] = []

    async def ask(server: StorageServer) -> None:
        try:
            head = await server.probe(resource.path)
        except UpstreamError as failure:
            failures.append(failure)
            _hold_against(server, failure)
        else:
            server.backoff.succeed()
            winners.append((server, head))
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for server in _awake(servers, failures):
            nursery.start_soon(ask, server)
    return winners[0] if winners else None


def _awake(servers: Collection[StorageServer], failures: list[UpstreamError]) -> list[StorageServer]:
    now = trio.current_time()
    awake = [server for server in servers if not server.backoff.is_resting(now)]
    if not awake and servers:
        awake = [min(servers, key=lambda server: server.backoff.rests_until)]
    resting = [server for server in servers if server not in awake]
    failures.extend(BrokenError(server.name, "left alone after repeated failures") for server in resting)
    return awake


def _hold_against(server: StorageServer, failure: UpstreamError) -> None:
    if isinstance(failure, AbsentError):
        server.backoff.succeed()  # it answered
    elif not isinstance(failure, CorruptError):  # which speaks of this one resource
        server.backoff.fail(trio.current_time())

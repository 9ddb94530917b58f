"""One flight's work: one storage server after the other, until what is on disk is one's whole and verified copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from pkgserver_trio.downloads.transfer import Transfer
from pkgserver_trio.errors import CorruptError, SilentError, UpstreamError, most_telling
from pkgserver_trio.storage.reservation import disk_errors_are_unavailability
from pkgserver_trio.upstream.reception import BRISK_BYTES, LEAST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from pkgserver_trio.downloads.flight import Flight
    from pkgserver_trio.downloads.proof import Proof
    from pkgserver_trio.storage.reservation import Reservation
    from pkgserver_trio.upstream.candidates import Candidates
    from pkgserver_trio.upstream.copies import Server


#: So short a wait before the first server is asked takes nothing off anybody's time.
_UNFELT_SECONDS = 1
#: After a longer one, which `admission` bounds, this keeps all silence together below the patience of clients.
_HURRIED = 0.7


class Delivery:
    """Fills the reservation of one flight. `on_cut` as in `Transfer`."""

    def __init__(self, flight: Flight, reservation: Reservation, proof: Proof, *, on_cut: Callable[[], None]) -> None:
        self._flight = flight
        self._resource = flight.resource
        self._progress = flight.progress
        self._reservation = reservation
        self._proof = proof
        self._on_cut = on_cut
        # Each silence that readers see shortens the next one: together, they stay below twice the first.
        self._patience = 1.0

    def hurry(self, waited_seconds: float) -> None:
        """Take what readers have waited already off the time that servers may be silent."""
        if waited_seconds > _UNFELT_SECONDS:
            self._patience = _HURRIED

    async def run(self, server: Server, candidates: Candidates) -> Server:
        """Take it from `server`, else from the other candidates in turn; return who delivered.

        Nobody is probed again: readers would feel the wait for that, and then the same wait for the copy.
        Raises ResourceUnavailableError.
        """
        while not await self._try(server, candidates):
            picked = candidates.pick(trio.current_time())
            if not picked:
                raise candidates.verdict(self._resource.name)
            server = picked[0]
        return server

    async def _try(self, server: Server, candidates: Candidates) -> bool:
        transfer = Transfer(server, self._reservation, self._progress, self._on_cut)
        written = self._progress.state.written_bytes
        is_last = candidates.is_last(server, trio.current_time())
        if is_last:
            self._patience = 1.0  # who can deliver only so is not given up for a silence of others
        least_bytes = LEAST_BYTES if is_last else BRISK_BYTES
        hurried = self._patience < 1
        self._flight.server = server.name
        self._progress.hand_over()
        try:
            await self._transfer(transfer, server, least_bytes)
        except UpstreamError as failure:
            if self._progress.state.written_bytes > written:
                self._patience = 1.0
            silent = isinstance(failure, SilentError)
            self._patience /= 2 if silent else 1
            began_well = transfer.has_brought_bytes and not isinstance(failure, CorruptError)
            may_retry = began_well or (silent and hurried)
            candidates.note(server, failure, trio.current_time(), may_retry=may_retry)
            return False
        finally:
            candidates.failures.extend(transfer.failures)
        server.backoff.succeed()
        return True

    async def _transfer(self, transfer: Transfer, server: Server, least_bytes: int) -> None:
        """Stream one server's copy to disk, and verify it. Raises UpstreamError, ResourceUnavailableError."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._receive, transfer, least_bytes)
                nursery.start_soon(self._verify, server)
        except BaseExceptionGroup as group:
            raise most_telling(group) from None
        self._progress.verify()

    async def _receive(self, transfer: Transfer, least_bytes: int) -> None:
        await transfer.run(patience=self._patience, least_bytes=least_bytes)

    async def _verify(self, server: Server) -> None:
        with disk_errors_are_unavailability(self._resource):
            fault = await self._proof.find_fault()
        if fault is not None:
            raise CorruptError(server.name, fault)

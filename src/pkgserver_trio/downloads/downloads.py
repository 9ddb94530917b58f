"""Downloads: one flight per resource, whoever asks for it: find a server, reserve, stream and hash, commit."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog
import trio

from pkgserver_trio.coalesce import Coalescer, Errand
from pkgserver_trio.downloads.delivery import Delivery
from pkgserver_trio.downloads.flight import Flight
from pkgserver_trio.downloads.proof import TreeProof
from pkgserver_trio.errors import NotFoundError, ResourceUnavailableError, UpstreamFailedError, UpstreamSilentError
from pkgserver_trio.refusals import Refusals
from pkgserver_trio.upstream.admission import TURN_SECONDS, Admission, Turns
from pkgserver_trio.upstream.candidates import Candidates
from pkgserver_trio.upstream.probes import Probes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pkgserver_trio.downloads.progress import Progress
    from pkgserver_trio.downloads.proof import Proof
    from pkgserver_trio.resource import Resource
    from pkgserver_trio.storage.hashing import Hashing
    from pkgserver_trio.storage.mtimes import Mtimes
    from pkgserver_trio.storage.open_file import OpenFile
    from pkgserver_trio.storage.store import Store
    from pkgserver_trio.upstream.copies import Head, Server

    _Refusals = Refusals[Resource, ResourceUnavailableError]

#: How long a failed resource is left alone before it is asked for again. Clients try again after a second.
_PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Order:
    """Who is asked for a resource, in which order, and what proves that what comes is right.

    `label` is what the resource is called in logs, where its own name would tell nothing.
    """

    servers: Sequence[Server]
    proof: Callable[[Resource, Progress, OpenFile], Proof]
    label: str = ""


class Downloads:
    """All flights. They run in `nursery`, which outlives every request."""

    def __init__(
        self,
        nursery: trio.Nursery,
        servers: Sequence[Server],
        store: Store,
        hashing: Hashing,
        mtimes: Mtimes,
        *,
        max_downloads: int,
        negative_seconds: float,
        admission: Admission | None = None,
    ) -> None:
        self.flights: Coalescer[Resource, Flight] = Coalescer(nursery)
        self._errands: Coalescer[Resource, Errand[Head]] = Coalescer(nursery)
        self.servers = tuple(servers)
        self._store = store
        self._order = Order(self.servers, partial(TreeProof, hashing))
        self._probes = Probes()
        self._admission = admission or Admission()
        self._negative_seconds = negative_seconds
        self._turns = Turns(max_downloads, max(max_downloads // 2, 1))
        self._mtimes = mtimes
        self.forget_refusals()
        self._log = structlog.get_logger()

    @property
    def waiting(self) -> int:
        """How many resources wait for a storage server to begin to deliver, or to say that it has them."""
        return self._admission.waiting

    def forget_refusals(self) -> None:
        """Ask again for what was missing. What is being asked for now was asked too early: it is not remembered."""
        self._refusals: _Refusals = Refusals()

    def join(self, resource: Resource, peer: str = "", order: Order | None = None) -> Flight:
        """Return the flight of `resource`, begun now for `peer` (none: for ourselves) if there is none. No checkpoint.

        Without an `order` it is a tarball that storage servers have. Raises ResourceUnavailableError when no more
        can be begun, or it failed a moment ago.
        """
        return self.flights.join(resource, partial(self._launch, resource, peer, order or self._order))

    def _launch(self, resource: Resource, peer: str, order: Order) -> Flight:
        self._admit(resource, peer)
        run = partial(self._download, self._refusals, order)
        return Flight(resource, self._mtimes.fresh(resource), run, peer, order.label)

    async def probe(self, resource: Resource, peer: str = "") -> Head:
        """Ask the storage servers for a resource without downloading it. Raises ResourceUnavailableError."""

        def launch() -> Errand[Head]:
            self._admit(resource, peer)
            return Errand(partial(self._find, self._refusals, resource, peer), resource.name)

        return await self._errands.join(resource, launch).wait()

    def _admit(self, resource: Resource, peer: str) -> None:
        refusal = self._refusals.recall(resource, trio.current_time())
        if refusal is not None:
            raise refusal.with_traceback(None)  # each who hears of it would add its own frames
        self._admission.enter(peer)

    def _refuse(self, refusals: _Refusals, resource: Resource, error: Exception) -> None:
        """Remember why the storage servers cannot give it; what else went wrong may be over already."""
        if isinstance(error, NotFoundError | UpstreamFailedError | UpstreamSilentError):
            seconds = self._negative_seconds if isinstance(error, NotFoundError) else _PAUSE_SECONDS
            # Its text only: the error itself holds on to all that it came from.
            refusals.add(resource, type(error)(str(error)), trio.current_time() + seconds)

    async def _find(self, refusals: _Refusals, resource: Resource, peer: str) -> Head:
        try:
            deadline = trio.current_time() + TURN_SECONDS
            _, head = await self._probes.find(resource, Candidates(self.servers), peer, deadline)
        except ResourceUnavailableError as error:
            self._refuse(refusals, resource, error)
            raise
        finally:
            self._admission.leave(peer)
        return head

    def drain(self) -> None:
        """Begin nothing any more; what runs goes on."""
        self._admission.close()

    async def _download(self, refusals: _Refusals, order: Order, flight: Flight) -> None:
        """Download it, and say in one line how that went."""
        candidates = Candidates(order.servers)
        log = self._log.bind(resource=flight.label)
        try:
            server = await self._fetch(flight, candidates, order)
        except Exception as error:
            self._refuse(refusals, flight.resource, error)
            event = "not kept" if flight.progress.state.verified else "not downloaded"
            if not isinstance(error, ResourceUnavailableError):
                log.exception(event)  # a defect: nobody else will tell
            elif isinstance(error, NotFoundError):
                log.debug(event, error=str(error))
            else:
                log.warning(event, error=str(error))
            raise
        size, failures = flight.progress.state.written_bytes, [str(failure) for failure in candidates.failures]
        log.info("downloaded", server=server.name, size_bytes=size, failures=failures)

    async def _fetch(self, flight: Flight, candidates: Candidates, order: Order) -> Server:
        """Return who delivered. Raises ResourceUnavailableError."""
        began = trio.current_time()
        async with AsyncExitStack() as stack:
            try:
                deadline = began + TURN_SECONDS
                server, _ = await self._probes.find(flight.resource, candidates, flight.peer, deadline)
                await stack.enter_async_context(self._turns.take(flight.peer, deadline))
            finally:
                self._admission.leave(flight.peer)
            reservation = stack.enter_context(self._store.reserve(flight.resource))
            flight.file = reservation.file
            proof = order.proof(flight.resource, flight.progress, reservation.file)
            delivery = Delivery(flight, reservation, proof, on_cut=partial(self._renew_mtime, flight))
            delivery.hurry(trio.current_time() - began)
            server = await delivery.run(server, candidates)
            await reservation.commit(flight.mtime_seconds)
        return server

    def _renew_mtime(self, flight: Flight) -> None:
        flight.mtime_seconds = self._mtimes.fresh(flight.resource)

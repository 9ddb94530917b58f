"""Asking all storage servers at once who has a resource: to download it, or only to know.

HEADs are kept apart from bodies, coalesced and bounded: a flood of names that nobody has costs the storage servers
little, and those who want something else only a wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from pkgserver_trio.errors import UpstreamError
from pkgserver_trio.upstream.admission import Turns

if TYPE_CHECKING:
    from pkgserver_trio.resource import Resource
    from pkgserver_trio.upstream.candidates import Candidates
    from pkgserver_trio.upstream.copies import Head, Server

#: Races at one time, in all and for one peer.
_MAX_RACES = 64
_MAX_RACES_EACH = _MAX_RACES // 4


class Probes:
    """The races that are under way."""

    def __init__(self) -> None:
        self._turns = Turns(_MAX_RACES, _MAX_RACES_EACH)

    async def find(self, resource: Resource, candidates: Candidates, peer: str, deadline: float) -> tuple[Server, Head]:
        """Return the first candidate that says it has the resource, and what it says of it.

        Raises ResourceUnavailableError when none does, or when it was not the turn of `peer` by `deadline`.
        """
        async with self._turns.take(peer, deadline):
            while servers := candidates.pick(trio.current_time()):
                won = await _race(servers, resource, candidates)
                if won is not None:
                    return won
        raise candidates.verdict(resource.name)


async def _race(servers: list[Server], resource: Resource, candidates: Candidates) -> tuple[Server, Head] | None:
    """Ask all `servers` at once; return the first that has the resource, and cancel the others."""
    winners: list[tuple[Server, Head]] = []

    async def ask(server: Server) -> None:
        try:
            head = await server.probe(resource.path)
        except UpstreamError as failure:
            candidates.note(server, failure, trio.current_time())
        else:
            winners.append((server, head))
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for server in servers:
            nursery.start_soon(ask, server)
    return winners[0] if winners else None

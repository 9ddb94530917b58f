"""One storage server's copy of a resource, on its way to disk.

1. What is written already, by an earlier server or before a reset, is compared and not written again. Where the copy
   differs, the rest is cut: readers that had come farther are told so by `Progress`, the others never notice.
2. A copy that breaks off is resumed by Range, only with the strong validator that it began with (RFC 9110, 13.1.5), and
   only while each attempt brings something.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from pkgserver_trio.errors import BrokenError
from pkgserver_trio.upstream.copies import Rest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pkgserver_trio.downloads.progress import Progress
    from pkgserver_trio.storage.reservation import Reservation
    from pkgserver_trio.upstream.copies import Body, Server

#: How often one copy is resumed.
MAX_RESUMES = 5


class Transfer:
    """Receives the copy of `server`. `on_cut` is called when bytes that readers may have got turn out to be others."""

    def __init__(
        self, server: Server, reservation: Reservation, progress: Progress, on_cut: Callable[[], None]
    ) -> None:
        self.failures: list[BrokenError] = []
        """What it was resumed after."""
        self._server = server
        self._reservation = reservation
        self._progress = progress
        self._on_cut = on_cut
        self._position = 0
        self._etag: str | None = None

    @property
    def has_brought_bytes(self) -> bool:
        """The server has sent some of its copy."""
        return bool(self._position)

    async def run(self, *, patience: float, least_bytes: int) -> None:
        """Receive the whole copy; `patience` and `least_bytes` as in `Server.open_body`.

        Raises UpstreamError, ResourceUnavailableError.
        """
        rest: Rest | None = None
        while True:
            before = self._position
            try:
                await self._receive(rest, patience, least_bytes)
                break
            except BrokenError as failure:
                if self._etag is None or self._position <= before or len(self.failures) == MAX_RESUMES:
                    raise
                self.failures.append(failure)
                self._server.tally.fail(failure)
                rest = Rest(self._position, self._etag)
        if self._position < self._progress.state.written_bytes:
            await self._cut()
        self._progress.arrive()

    async def _receive(self, rest: Rest | None, patience: float, least_bytes: int) -> None:
        path = self._reservation.resource.path
        opened = self._server.open_body(path, rest=rest, patience=patience, least_bytes=least_bytes)
        async with opened as body:
            await self._begin(body)
            async for piece in body.pieces:
                await self._take(piece)
        size = body.head.size_bytes
        if size not in {None, self._position}:
            raise BrokenError(self._server.name, f"sent {self._position} of {size} bytes")

    async def _begin(self, body: Body) -> None:
        if body.head.size_bytes is not None:
            await self._reservation.expect(body.head.size_bytes)
        if body.start == 0:
            self._position = 0
            self._etag = body.head.etag
            self._progress.begin(body.head.size_bytes)

    async def _take(self, piece: bytes) -> None:
        """Compare what is written already, write what is not."""
        self._server.tally.received_bytes += len(piece)
        known = piece[: max(self._progress.state.written_bytes - self._position, 0)]
        if known:
            equal = await self._reservation.count_equal(known, self._position)
            self._position += equal
            if equal < len(known):
                await self._cut()
            self._progress.reach(self._position)
            piece = piece[equal:]
        if piece:
            await self._reservation.write(piece)
            self._position += len(piece)
            self._progress.reach(self._position)

    async def _cut(self) -> None:
        self._on_cut()
        self._progress.cut(self._position)  # first: nobody may read what is being cut
        with trio.CancelScope(shield=True):  # or what readers were told would not be what the next server appends to
            await self._reservation.cut(self._position)

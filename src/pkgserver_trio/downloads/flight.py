"""A flight: one shared download, seen by its readers as a file that grows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import trio

from pkgserver_trio.downloads.progress import Progress
from pkgserver_trio.errors import BrokenOffError, ResourceUnavailableError, ShuttingDownError, StorageFailedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pkgserver_trio.downloads.progress import View
    from pkgserver_trio.resource import Resource
    from pkgserver_trio.storage.open_file import OpenFile


@dataclass(frozen=True, slots=True)
class FlightReader:
    """One answer's view of a flight; whoever got it closes it. `coalesced`: the flight was under way before."""

    flight: Flight
    file: OpenFile
    view: View
    mtime_seconds: int
    coalesced: bool = False

    @property
    def size_bytes(self) -> int | None:
        """The whole size; None while it is not known."""
        return self.view.size_bytes

    async def read(self, offset: int, stop: int | None) -> bytes:
        """Return some bytes from `offset` on, below `stop` (None: the end), as soon as they may be sent.

        Empty only at the end. The answer's last byte comes when the whole is verified. Raises BrokenOffError, and
        ResourceUnavailableError when it failed before anything was read: asking anew would only fail anew.
        """
        progress = self.flight.progress
        while True:
            limit = await progress.wait_readable(self.view, offset, stop)
            if limit <= offset:
                return b""
            cuts = len(progress.state.cuts)
            piece = await self.file.read(offset, limit)
            if len(progress.state.cuts) != cuts:  # what was read may be what was cut
                continue
            if not piece:
                raise BrokenOffError("the file has become shorter than it was")
            progress.taken = True
            return piece

    async def whole(self) -> FlightReader:
        """Return the same view once all is verified, and the size known. Raises ResourceUnavailableError."""
        await self.flight.wait_landed()
        return replace(self, view=self.flight.progress.state.view, mtime_seconds=self.flight.mtime_seconds)

    def close(self) -> None:
        """Let go of the file."""
        self.file.release()


class Flight:
    """The download of one resource. It runs in its own task, whoever reads it; `Coalescer` starts and settles it.

    `peer` is who asked first (empty: this server itself), `label` what it is called in logs
    (empty: its name). `mtime_seconds` is that of the file it will be: another one
    after each cut, or an answer that was broken off would have the validators of other bytes. `begun` is by Trio's
    clock; `server` is the name of who delivers, once there is one.
    """

    def __init__(
        self,
        resource: Resource,
        mtime_seconds: int,
        download: Callable[[Flight], Awaitable[None]],
        peer: str = "",
        label: str = "",
    ) -> None:
        self.resource = resource
        self.mtime_seconds = mtime_seconds
        self.peer = peer
        self.label = label or resource.name
        self.progress = Progress()
        self.file: OpenFile | None = None
        self.begun = trio.current_time()
        self.server: str | None = None
        self._download = download
        self._joined = False
        self._settled = trio.Event()
        self._error: BaseException | None = None

    @property
    def readers(self) -> int:
        """How many read it, besides the download itself, which holds the file too."""
        return 0 if self.file is None else max(self.file.holders - 1, 0)

    async def run(self) -> None:
        """Download; what goes wrong is raised, and reaches the readers through `settle`."""
        await self._download(self)

    def settle(self, error: BaseException | None) -> None:
        """Wake those who still wait, at the end."""
        self._error = error
        self._settled.set()
        if error is None or self.progress.state.verified:
            return  # a failure after verification (no room to keep the file) takes nothing from those who read it
        self.progress.fail(_as_unavailable(self.resource, error))

    async def open_reader(self) -> FlightReader | None:
        """Wait until a server delivers; None when all is over already, and the store has to be asked again.

        Raises ResourceUnavailableError when no server delivers.
        """
        coalesced, self._joined = self._joined, True
        state = await self.progress.wait_begun()
        if state.error is not None:
            raise _as_unavailable(self.resource, state.error)
        if self.file is None or self.file.closed:
            return None
        return FlightReader(self, self.file.hold(), self.progress.state.view, self.mtime_seconds, coalesced)

    async def wait_landed(self) -> None:
        """Wait until the whole is verified. Raises ResourceUnavailableError when it will not be."""
        state = await self.progress.wait_for(lambda state: state.verified or state.error is not None)
        if not state.verified:
            raise _as_unavailable(self.resource, state.error)

    def raise_if_failed(self) -> None:
        """Raise ResourceUnavailableError when nothing more will come of it."""
        state = self.progress.state
        if state.error is not None and not state.verified:
            raise _as_unavailable(self.resource, state.error)

    async def wait_settled(self) -> None:
        """Wait until all is over, the file's commit included. Raises ResourceUnavailableError when anything failed."""
        await self._settled.wait()
        if self._error is not None:
            raise _as_unavailable(self.resource, self._error)


def _as_unavailable(resource: Resource, error: BaseException | None) -> ResourceUnavailableError:
    if isinstance(error, ResourceUnavailableError):
        return error.with_traceback(None)  # raised once per waiter: each would add its own frames to the others'
    if isinstance(error, Exception):
        return StorageFailedError(f"{resource.name} could not be downloaded: {type(error).__name__}")
    return ShuttingDownError(f"{resource.name} was being downloaded while the server stopped")

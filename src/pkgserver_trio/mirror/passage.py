"""An answer of an origin on its way to one client, in no file: read as it comes, at the client's pace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from pkgserver_trio.errors import BrokenOffError, ShuttingDownError, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager

    from pkgserver_trio.mirror.object_origin import PassedAnswer
    from pkgserver_trio.statistics import ServerTally


class Passage:
    """Carries the body of `opened` in a task of its own, so that a request needs no scope around its whole answer.

    One piece waits at most. Whoever got it closes it, and so ends that task.
    """

    def __init__(self, opened: AbstractAsyncContextManager[PassedAnswer], tally: ServerTally) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.size_bytes: int | None = None
        self._opened, self._tally = opened, tally
        self._there = trio.Event()
        self._failure: UpstreamError | None = None
        self._finished = False
        self._scope = trio.CancelScope()
        self._send, self._receive = trio.open_memory_channel[bytes](0)

    async def run(self) -> None:
        """Fetch; what goes wrong is told to who reads."""
        with self._send, self._scope:  # the first is closed last: who reads then learns at once how it ended
            try:
                async with self._opened as answer:
                    await self._carry(answer)
                self._finished = True
            except UpstreamError as failure:
                self._failure = failure
                self._tally.fail(failure)
            finally:
                self._there.set()

    async def _carry(self, answer: PassedAnswer) -> None:
        self.status, self.headers, self.size_bytes = answer.status, answer.headers, answer.size_bytes
        self._there.set()
        async for piece in answer.pieces:
            self._tally.received_bytes += len(piece)
            await self._send.send(piece)

    async def wait_begun(self) -> None:
        """Return once the head is there. Raises UpstreamError, ShuttingDownError."""
        await self._there.wait()
        if self._failure is not None:
            raise self._failure
        if not self.status:
            raise ShuttingDownError("an object was asked for while the server stopped")

    async def read(self, _offset: int, _stop: int | None) -> bytes:
        """Return the next piece; empty at the end. Raises BrokenOffError when that is not the end of the object."""
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            if self._finished:
                return b""
        raise BrokenOffError("the origin broke off") from self._failure

    def close(self) -> None:
        """Want no more of it: an origin that is silent is not waited for."""
        self._scope.cancel()  # first: so no send fails
        self._receive.close()

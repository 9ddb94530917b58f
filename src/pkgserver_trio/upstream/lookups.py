"""The names of storage servers and origins, looked up beside everything else.

Trio would look names up in the threads that disk work shares. A lookup cannot be stopped, so a silent nameserver would
take them all, one for each who asks and gives up.

1. Lookups have a few threads of their own.
2. One lookup serves all who ask the same, also those who come while nobody waits for it any more: a name takes one
   thread, however long it hangs.
3. An answer is good for a few seconds: whoever moves a server to another address is noticed soon.
"""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import trio

from pkgserver_trio.coalesce import Errand

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

MAX_THREADS: Final = 8
#: Names under way or remembered; a storage server may redirect to any number of them.
MAX_NAMES: Final = 256
GOOD_SECONDS: Final = 5.0
FAILED_SECONDS: Final = 1.0

#: What Trio hands on to `socket.getaddrinfo`, and what that returns, whose type differs by the kind of address.
Question: TypeAlias = tuple[Any, ...]
Addresses: TypeAlias = list[Any]


class Names(trio.abc.HostnameResolver):
    """Looks names up with `look_up`, in tasks of `nursery`. Numeric addresses never get here."""

    def __init__(self, nursery: trio.Nursery, look_up: Callable[..., Addresses] = socket.getaddrinfo) -> None:
        self._nursery = nursery
        self._look_up = look_up
        self._threads = trio.CapacityLimiter(MAX_THREADS)
        self._errands: dict[Question, Errand[Addresses]] = {}

    async def getaddrinfo(self, *question: Any) -> Addresses:  # noqa: ANN401 # they are only handed on
        """Return what `socket.getaddrinfo` does. Raises OSError as it does, and when too many names are asked for."""
        errand = self._errands.get(question)
        if errand is None:
            if len(self._errands) == MAX_NAMES:
                raise socket.gaierror(socket.EAI_AGAIN, "too many names are being looked up")
            errand = Errand(lambda: self._in_thread(self._look_up, *question), "a lookup")
            self._errands[question] = errand
            self._nursery.start_soon(self._run, question, errand)
        return await errand.wait()

    async def getnameinfo(self, *question: Any) -> tuple[str, str]:  # noqa: ANN401 # they are only handed on
        """Return what `socket.getnameinfo` does. Raises OSError."""
        name: tuple[str, str] = await self._in_thread(socket.getnameinfo, *question)
        return name

    async def _in_thread(self, look_up: Callable[..., Any], *question: Any) -> Any:  # noqa: ANN401 # of two kinds
        return await trio.to_thread.run_sync(look_up, *question, limiter=self._threads, abandon_on_cancel=True)

    async def _run(self, question: Question, errand: Errand[Addresses]) -> None:
        error: BaseException | None = None
        try:
            await errand.run()
        except Exception as failure:  # noqa: BLE001 # whatever it is, it belongs to those who asked
            error = failure
        except BaseException as cancelled:
            error = cancelled
            raise
        finally:
            errand.settle(error)
        await trio.sleep(GOOD_SECONDS if error is None else FAILED_SECONDS)
        del self._errands[question]


@asynccontextmanager
async def own_names() -> AsyncIterator[None]:
    """Have Trio look names up so while this is open, unless someone else has told it how."""
    async with trio.open_nursery() as nursery:
        before = trio.socket.set_custom_hostname_resolver(Names(nursery))
        if before is not None:
            trio.socket.set_custom_hostname_resolver(before)
        try:
            yield
        finally:
            trio.socket.set_custom_hostname_resolver(before)
            nursery.cancel_scope.cancel()

"""Coalesce concurrent requests: one task per key, owned by a nursery that outlives every caller.

Rule 1: the work never runs in a caller's task, so a cancelled caller cancels only its own wait.
Rule 2: `join` contains no checkpoint, so check-and-insert cannot interleave.
Rule 3: a failure is told to the work, which tells its waiters; it never reaches the nursery.
Rule 4: the key is free again before anybody hears of the end, so a waiter that retries starts anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import trio

from pkgserver_trio.errors import ShuttingDownError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterator


class Work(Protocol):
    """Something that many callers may want to share while it runs."""

    async def run(self) -> None:
        """Do the work; whatever it raises goes to `settle`."""

    def settle(self, error: BaseException | None) -> None:
        """Wake every waiter. `error` is what `run` raised, `trio.Cancelled` included, or None. Must not raise."""


W = TypeVar("W", bound=Work)
R = TypeVar("R")
K = TypeVar("K", bound="Hashable")


class Coalescer(Generic[K, W]):
    """The running works, by key."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._running: dict[K, W] = {}

    def __len__(self) -> int:
        """Return how many works are running."""
        return len(self._running)

    def __iter__(self) -> Iterator[W]:
        """Yield the works that are running."""
        return iter(tuple(self._running.values()))

    def __contains__(self, key: object) -> bool:
        """Tell whether a work for `key` is running."""
        return key in self._running

    def get(self, key: K) -> W | None:
        """Return the running work for `key`, if there is one."""
        return self._running.get(key)

    def join(self, key: K, launch: Callable[[], W]) -> W:
        """Return the running work for `key`, or start the one that `launch` makes.

        Raises RuntimeError when the nursery is closed.
        """
        work = self._running.get(key)
        if work is None:
            work = launch()
            self._nursery.start_soon(self._run, key, work, name=f"flight {key}")
            self._running[key] = work
        return work

    async def _run(self, key: K, work: W) -> None:
        error: BaseException | None = None
        try:
            await work.run()
        except Exception as failure:  # noqa: BLE001 # whatever it is, it belongs to the waiters (rule 3)
            error = failure
        except BaseException as cancelled:
            error = cancelled
            raise
        finally:
            del self._running[key]
            work.settle(error)


class Errand(Generic[R]):
    """A work with a result, for all who wait for it. `name` says what it is about."""

    def __init__(self, do: Callable[[], Awaitable[R]], name: str) -> None:
        self._do = do
        self._name = name
        self._settled = trio.Event()
        self._result: list[R] = []
        self._error: BaseException | None = None

    async def run(self) -> None:
        """Do it."""
        self._result.append(await self._do())

    def settle(self, error: BaseException | None) -> None:
        """Wake those who wait."""
        self._error = error
        self._settled.set()

    async def wait(self) -> R:
        """Return the result; raise what the work raised, ShuttingDownError when it was cancelled."""
        await self._settled.wait()
        if isinstance(self._error, Exception):
            raise self._error.with_traceback(None)  # raised once per waiter: each would add its own frames
        if self._error is not None:
            raise ShuttingDownError(f"{self._name} was under way while the server stopped")
        return self._result[0]

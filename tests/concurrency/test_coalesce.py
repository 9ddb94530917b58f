from __future__ import annotations

import pytest
import trio
from trio.testing import assert_no_checkpoints, wait_all_tasks_blocked

from pkgserver_trio.coalesce import Coalescer


class GatedWork:
    """Runs until its gate opens; counts its runs and tells everybody who asks how it ended."""

    def __init__(self, error: Exception | None = None) -> None:
        self.gate = trio.Event()
        self.ended = trio.Event()
        self.runs = 0
        self.outcome: BaseException | None = None
        self.key_was_free: bool | None = None
        self.coalescer: Coalescer[str, GatedWork] | None = None
        self._error = error

    async def run(self) -> None:
        self.runs += 1
        await self.gate.wait()
        if self._error is not None:
            raise self._error

    def settle(self, error: BaseException | None) -> None:
        self.outcome = error
        self.key_was_free = self.coalescer is not None and "key" not in self.coalescer
        self.ended.set()


async def test_two_hundred_callers_share_one_work(nursery: trio.Nursery) -> None:
    coalescer: Coalescer[str, GatedWork] = Coalescer(nursery)
    made: list[GatedWork] = []

    def launch() -> GatedWork:
        made.append(GatedWork())
        return made[-1]

    async def call() -> None:
        await coalescer.join("key", launch).ended.wait()

    async with trio.open_nursery() as callers:
        for _ in range(200):
            callers.start_soon(call)
        await wait_all_tasks_blocked()
        assert [work.runs for work in made] == [1]
        made[0].gate.set()
    assert len(coalescer) == 0


async def test_other_keys_run_beside_each_other(nursery: trio.Nursery) -> None:
    coalescer: Coalescer[str, GatedWork] = Coalescer(nursery)
    one, two = coalescer.join("one", GatedWork), coalescer.join("two", GatedWork)
    assert one is not two
    assert list(coalescer) == [one, two]
    assert coalescer.get("one") is one
    assert coalescer.get("three") is None
    two.gate.set()
    await two.ended.wait()
    assert ("one" in coalescer, "two" in coalescer) == (True, False)
    one.gate.set()


async def test_cancelled_caller_never_cancels_the_work(nursery: trio.Nursery) -> None:
    coalescer: Coalescer[str, GatedWork] = Coalescer(nursery)
    work = GatedWork()
    async with trio.open_nursery() as callers:
        callers.start_soon(coalescer.join("key", lambda: work).ended.wait)
        await wait_all_tasks_blocked()
        callers.cancel_scope.cancel()
    assert coalescer.get("key") is work
    work.gate.set()
    await work.ended.wait()
    assert work.outcome is None


async def test_a_failure_reaches_the_work_and_not_the_nursery(nursery: trio.Nursery) -> None:
    coalescer: Coalescer[str, GatedWork] = Coalescer(nursery)
    boom = OSError("disk")
    work = coalescer.join("key", lambda: GatedWork(boom))
    work.coalescer = coalescer
    work.gate.set()
    await work.ended.wait()
    assert work.outcome is boom
    await wait_all_tasks_blocked()
    assert not nursery.cancel_scope.cancel_called


@pytest.mark.parametrize("error", [None, ValueError("wrong")])
async def test_the_key_is_free_before_anybody_hears_of_the_end(nursery: trio.Nursery, error: Exception | None) -> None:
    coalescer: Coalescer[str, GatedWork] = Coalescer(nursery)
    work = coalescer.join("key", lambda: GatedWork(error))
    work.coalescer = coalescer
    work.gate.set()
    await work.ended.wait()
    assert work.key_was_free
    again = coalescer.join("key", GatedWork)
    assert again is not work
    again.gate.set()


async def test_a_cancelled_owner_tells_the_work_that_it_was_cancelled() -> None:
    async with trio.open_nursery() as owner:
        work = Coalescer[str, GatedWork](owner).join("key", GatedWork)
        await wait_all_tasks_blocked()
        owner.cancel_scope.cancel()
    assert work.ended.is_set()
    assert isinstance(work.outcome, trio.Cancelled)


async def test_work_that_never_ran_is_settled_too() -> None:
    async with trio.open_nursery() as owner:
        owner.cancel_scope.cancel()
        work = Coalescer[str, GatedWork](owner).join("key", GatedWork)
    assert isinstance(work.outcome, trio.Cancelled)


async def test_joining_has_no_checkpoint(nursery: trio.Nursery) -> None:
    coalescer: Coalescer[str, GatedWork] = Coalescer(nursery)
    with assert_no_checkpoints():
        first = coalescer.join("key", GatedWork)
        assert coalescer.join("key", GatedWork) is first
    first.gate.set()


async def test_a_closed_nursery_takes_no_work_and_keeps_no_key() -> None:
    async with trio.open_nursery() as owner:
        coalescer: Coalescer[str, GatedWork] = Coalescer(owner)
    with pytest.raises(RuntimeError):
        coalescer.join("key", GatedWork)
    assert len(coalescer) == 0

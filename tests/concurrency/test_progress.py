from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from pkgserver_trio.downloads.progress import AHEAD_BYTES, Progress, View
from pkgserver_trio.errors import BrokenOffError

if TYPE_CHECKING:
    from trio.testing import MockClock


KNOWN = View(cuts=0, size_bytes=10)
UNKNOWN = View(cuts=0, size_bytes=None)


def begun(size: int | None = 10) -> Progress:
    progress = Progress()
    progress.begin(size)
    return progress


async def test_a_reader_wakes_when_there_is_more_and_only_then(autojump_clock: MockClock) -> None:
    progress = begun(30)
    view = progress.state.view
    seen: list[tuple[float, int]] = []

    async def read() -> None:
        offset = 0
        while offset < 30:
            offset = await progress.wait_readable(view, offset, 30)
            seen.append((trio.current_time(), offset))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        for position in (10, 20, 30):
            await trio.sleep(1)
            progress.reach(position)
        await trio.sleep(1)
        progress.verify()
    assert seen == [(1, 9), (2, 19), (3, 29), (4, 30)]


@pytest.mark.parametrize(
    ("written", "stop", "readable"),
    [(10, 10, 9), (10, None, 9), (10, 5, 4), (4, 8, 3), (10, 12, 9), (2, None, 1)],
)
async def test_the_last_byte_of_every_answer_waits_for_verification(
    written: int, stop: int | None, readable: int
) -> None:
    progress = begun(None)
    progress.reach(written)
    assert await progress.wait_readable(UNKNOWN, 0, stop) == readable
    ends: list[int] = []

    async def read_on() -> None:
        ends.append(await progress.wait_readable(UNKNOWN, readable, stop))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_on)
        await wait_all_tasks_blocked()
        progress.arrive()
        await wait_all_tasks_blocked()
        assert ends == []
        progress.verify()
    assert ends == [min(stop or written, written)]


async def test_an_answer_of_one_byte_waits_for_verification() -> None:
    progress = begun()
    progress.reach(10)
    progress.arrive()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(progress.wait_readable, KNOWN, 3, 4)
            await wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught
    progress.verify()
    assert await progress.wait_readable(KNOWN, 3, 4) == 4


async def test_at_the_end_there_is_no_more() -> None:
    progress = begun()
    progress.reach(10)
    progress.arrive()
    progress.verify()
    assert await progress.wait_readable(KNOWN, 10, None) == 10
    assert await progress.wait_readable(KNOWN, 12, 20) == 12
    assert progress.state.size_bytes == 10


async def test_what_came_before_a_failure_may_still_be_read() -> None:
    progress = begun()
    progress.taken = True
    progress.reach(6)
    cause = OSError("reset")
    progress.fail(cause)
    assert await progress.wait_readable(KNOWN, 0, None) == 5
    with pytest.raises(BrokenOffError) as caught:
        await progress.wait_readable(KNOWN, 5, None)
    assert caught.value.__cause__ is cause


async def test_a_failure_before_the_first_byte_was_taken_is_the_readers_own() -> None:
    progress = begun()
    progress.reach(6)
    cause = OSError("disk")
    progress.fail(cause)
    with pytest.raises(OSError, match="disk") as caught:
        await progress.wait_readable(KNOWN, 0, None)
    assert caught.value is cause


CUTS = {
    "one that had come so far goes on": (KNOWN, 6, True),
    "one that had come farther is told so": (KNOWN, 7, False),
    "one that had nothing goes on": (KNOWN, 0, True),
    "one that did not know the size goes on": (UNKNOWN, 6, True),
    "one that had come farther, without knowing the size": (UNKNOWN, 7, False),
}


@pytest.mark.parametrize(("view", "offset", "goes_on"), CUTS.values(), ids=CUTS)
async def test_after_a_cut(view: View, offset: int, *, goes_on: bool) -> None:
    progress = begun()
    progress.reach(10)
    progress.begin(10)
    progress.reach(6)
    progress.cut(6)
    progress.reach(9)
    if goes_on:
        assert await progress.wait_readable(view, offset, 10) == 8
    else:
        with pytest.raises(BrokenOffError):
            await progress.wait_readable(view, offset, 10)


async def test_of_several_cuts_the_deepest_counts_and_later_readers_do_not_mind() -> None:
    progress = begun()
    progress.reach(10)
    for kept in (8, 3, 5):
        progress.cut(kept)
        progress.reach(10)
    later = progress.state.view
    assert await progress.wait_readable(KNOWN, 3, 10) == 9
    assert await progress.wait_readable(later, 7, 10) == 9
    with pytest.raises(BrokenOffError):
        await progress.wait_readable(KNOWN, 4, 10)


async def test_a_reader_that_was_told_another_size_is_told_so_at_once() -> None:
    progress = begun()
    progress.taken = True
    progress.reach(5)

    async def read() -> None:
        with pytest.raises(BrokenOffError):
            await progress.wait_readable(KNOWN, 4, 10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        progress.begin(20)
    assert await progress.wait_readable(progress.state.view, 0, 20) == 4


async def test_another_server_that_tells_no_size_changes_nothing_until_the_end() -> None:
    progress = begun()
    progress.reach(5)
    progress.begin(None)
    assert await progress.wait_readable(KNOWN, 0, 10) == 4
    progress.reach(9)
    progress.arrive()
    with pytest.raises(BrokenOffError):
        await progress.wait_readable(KNOWN, 0, 10)


async def test_nobody_runs_far_ahead_of_the_hasher() -> None:
    progress = begun(3 * AHEAD_BYTES)
    progress.reach(2 * AHEAD_BYTES)
    assert await progress.wait_readable(progress.state.view, 0, None) == AHEAD_BYTES
    progress.hash_to(1000)
    assert await progress.wait_readable(progress.state.view, 0, None) == AHEAD_BYTES + 1000


async def test_waiting_to_begin_ends_with_the_failure() -> None:
    progress = Progress()
    cause = OSError("nobody")
    progress.fail(cause)
    assert (await progress.wait_begun()).error is cause

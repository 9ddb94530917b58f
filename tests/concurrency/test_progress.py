from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from pkgserver_trio.errors import BrokenOffError
from pkgserver_trio.progress import Progress

if TYPE_CHECKING:
    from trio.testing import MockClock


def begun(size: int | None = 10) -> Progress:
    progress = Progress()
    progress.begin(size)
    return progress


async def test_a_reader_wakes_when_there_is_more_and_only_then(autojump_clock: MockClock) -> None:
    progress = begun(30)
    seen: list[tuple[float, int]] = []

    async def read() -> None:
        offset = 0
        while offset < 30:
            offset = await progress.wait_readable(1, offset, 30)
            seen.append((trio.current_time(), offset))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        for _ in range(3):
            await trio.sleep(1)
            progress.advance(10)
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
    progress = begun()
    progress.advance(written)
    assert await progress.wait_readable(1, 0, stop) == readable
    ends: list[int] = []

    async def read_on() -> None:
        ends.append(await progress.wait_readable(1, readable, stop))

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
    progress.advance(10)
    progress.arrive()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(progress.wait_readable, 1, 3, 4)
            await wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught
    progress.verify()
    assert await progress.wait_readable(1, 3, 4) == 4


async def test_at_the_end_there_is_no_more() -> None:
    progress = begun()
    progress.advance(10)
    progress.verify()
    assert await progress.wait_readable(1, 10, None) == 10
    assert await progress.wait_readable(1, 12, 20) == 12
    assert progress.state.size_bytes == 10


async def test_what_came_before_a_failure_may_still_be_read() -> None:
    progress = begun()
    progress.taken = True
    progress.advance(6)
    cause = OSError("reset")
    progress.fail(cause)
    assert await progress.wait_readable(1, 0, None) == 5
    with pytest.raises(BrokenOffError) as caught:
        await progress.wait_readable(1, 5, None)
    assert caught.value.__cause__ is cause


async def test_a_failure_before_the_first_byte_was_taken_is_the_readers_own() -> None:
    progress = begun()
    progress.advance(6)
    cause = OSError("disk")
    progress.fail(cause)
    with pytest.raises(OSError, match="disk") as caught:
        await progress.wait_readable(1, 0, None)
    assert caught.value is cause


async def test_a_reader_of_a_withdrawn_attempt_is_told_so() -> None:
    progress = begun()

    async def read() -> None:
        with pytest.raises(BrokenOffError):
            await progress.wait_readable(1, 0, None)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        progress.advance(1)
        progress.withdraw()
        assert not progress.is_running(1)
        progress.begin(20)
        assert progress.is_running(2)
        progress.advance(5)


async def test_waiting_to_begin_outlasts_a_withdrawn_attempt() -> None:
    progress = Progress()
    progress.begin(10)
    progress.withdraw()
    states = []

    async def wait() -> None:
        states.append(await progress.wait_begun())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert states == []
        progress.begin(None)
    assert [(state.attempt, state.size_bytes, state.written_bytes) for state in states] == [(2, None, 0)]


async def test_waiting_to_begin_ends_with_the_failure() -> None:
    progress = Progress()
    cause = OSError("nobody")
    progress.fail(cause)
    assert (await progress.wait_begun()).error is cause

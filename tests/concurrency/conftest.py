"""What these tests share: a time that is pretended as a whole, the time in threads included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do what goes to a thread on the spot: "all tasks are blocked" then means that nothing is under way."""

    async def run_here(work: Callable[..., Any], *args: object, **_: object) -> object:
        await trio.lowlevel.checkpoint()
        return work(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_here)


@pytest.fixture
def autojump_clock(no_threads: None, autojump_clock: trio.testing.MockClock) -> trio.testing.MockClock:
    """Without threads, since the clock jumps while one is at work."""
    return autojump_clock

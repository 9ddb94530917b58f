"""The watchdog: what counts as a hang, and what does not."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
from structlog.testing import capture_logs
from tests.fakes import Behaviour, FakeTransport
from tests.lofts import had_at_once, open_servers, registries_of, registry_of

from pkgserver_trio.settings import Settings
from pkgserver_trio.supervise import HANG_SECONDS, HangError, Turns, patience_seconds, watch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from trio.testing import MockClock

    from pkgserver_trio.resource import Resource

HOURS = 3600
HEAD = registry_of("23338594-aafe-5451-b93e-139f81909106", "head")
FILES = {f"/registries{flavor}": f"{HEAD.path}\n".encode() for flavor in ("", ".eager", ".conservative")}


async def run_watched(
    root: Path, seconds: float, *hosts: FakeTransport, hold: Callable[[Resource], Awaitable[None]] = had_at_once
) -> None:
    """Run the registry loop under the watchdog for so long. Raises HangError, in groups."""
    async with open_servers({f"{number}.invalid": host for number, host in enumerate(hosts)}) as servers:
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                registries = registries_of(root, servers, period_seconds=10, hold=hold)
                nursery.start_soon(registries.run)
                look = partial(watch, registries.turns, patience_seconds=HANG_SECONDS, last_resort=lambda: None)
                nursery.start_soon(look)


@pytest.mark.parametrize(
    "behaviour", [Behaviour(connect="hang"), Behaviour(connect="refuse"), Behaviour(status=500)], ids=str
)
async def test_a_storage_server_that_hangs_is_no_hang_of_ours(
    behaviour: Behaviour, tmp_path: Path, autojump_clock: MockClock
) -> None:
    def script(_: object) -> Behaviour:
        return behaviour

    await run_watched(tmp_path, 2 * HOURS, FakeTransport(script=script), FakeTransport(FILES))
    await run_watched(tmp_path, 2 * HOURS, FakeTransport(script=script))


async def test_a_head_that_cannot_be_had_is_no_hang(tmp_path: Path, autojump_clock: MockClock) -> None:
    async def hold(_: Resource) -> None:
        await trio.sleep_forever()

    await run_watched(tmp_path, 2 * HOURS, FakeTransport(FILES), hold=hold)


async def test_one_poll_that_hangs_is_seen_whatever_the_others_do(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = trio.sleep

    async def ask(poll: object) -> bool:
        if getattr(poll, "flavor", "") == "eager":
            await trio.sleep_forever()
        await real(1)
        return False

    monkeypatch.setattr("pkgserver_trio.registries.poll.Poll.ask", ask)
    with capture_logs() as lines:
        await assert_hangs(tmp_path, "eager http://0.invalid", FakeTransport(FILES))
    (told,) = (line for line in lines if line["log_level"] == "error")
    assert told["loop"] == "eager http://0.invalid"
    assert HANG_SECONDS < told["seconds"] <= HANG_SECONDS + 10


async def test_a_decision_that_hangs_is_seen(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def rank(*_: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr("pkgserver_trio.registries.head_choice.HeadChoice.rank", rank)
    await assert_hangs(tmp_path, HEAD.resource.uuid or "", FakeTransport(FILES))


async def test_a_loop_that_does_not_even_begin_is_seen(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stuck(*_: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr("trio.to_thread.run_sync", stuck)
    await assert_hangs(tmp_path, "registries", FakeTransport(FILES))


async def assert_hangs(root: Path, loop: str, *hosts: FakeTransport) -> None:
    before = trio.current_time()
    with pytest.RaisesGroup(pytest.RaisesExc(HangError, match=loop), flatten_subgroups=True):
        await run_watched(root, 2 * HOURS, *hosts)
    assert trio.current_time() - before < HANG_SECONDS + 30


async def test_the_last_resort_comes_before_the_orderly_end(autojump_clock: MockClock) -> None:
    turns, calls = Turns(), list[float]()
    turns.begin("a loop")
    with pytest.raises(HangError):
        await watch(turns, patience_seconds=100, last_resort=lambda: calls.append(trio.current_time()))
    assert calls == [trio.current_time()]


async def test_a_machine_that_slept_is_no_hang(mock_clock: MockClock) -> None:
    turns = Turns()

    async def come_round() -> None:
        while True:
            turns.begin("a loop")
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(come_round)
        nursery.start_soon(partial(watch, turns, patience_seconds=100, last_resort=lambda: None))
        for jump in (10.5, 10_000, 10.5, 10.5):
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(jump)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_a_turn_has_all_its_time_after_the_machine_slept(mock_clock: MockClock) -> None:
    turns, longest = Turns(), list[tuple[str, float]]()
    turns.begin("a loop")
    with pytest.RaisesGroup(HangError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(watch, turns, patience_seconds=100, last_resort=lambda: None))
            await trio.testing.wait_all_tasks_blocked()
            for jump in (10, 10_000, *[10] * 9):
                longest.append(turns.longest())
                mock_clock.jump(jump)
                await trio.testing.wait_all_tasks_blocked()
    assert longest[-1] == ("a loop", 100.0), "what took longer than that hung, whenever the machine slept"


async def test_without_loops_nothing_hangs() -> None:
    turns = Turns()
    turns.begin("a loop")
    turns.leave("a loop")
    turns.leave("a loop")
    assert turns.longest() == ("", 0.0)


def test_patience_is_longer_than_any_turn_in_which_all_servers_are_silent() -> None:
    assert patience_seconds(Settings.from_mapping({})) == HANG_SECONDS
    slow = {f"PKGSERVER_{what}_SECONDS": "3600" for what in ("CONNECT", "HEAD", "BODY")}
    assert patience_seconds(Settings.from_mapping(slow)) > 9 * 3600

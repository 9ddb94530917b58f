"""Those who watch the log: what they are shown, what they miss, and that nobody else notices them."""

from __future__ import annotations

import json
import logging
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest
import structlog
import trio
import trio.testing
from tests.log_state import restored_logs

from pkgserver_trio.logs import hub as log_hub
from pkgserver_trio.logs.hub import MAX_WAITING, MAX_WATCHERS, LogHub
from pkgserver_trio.logs.setup import configure_logs

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    with restored_logs():
        yield


def do_nothing() -> None:
    pass


@pytest.fixture
async def hub() -> LogHub:
    """Give the hub of a log that is itself at the level `warning`; async, to write where the test itself would."""
    hub = LogHub()
    configure_logs(partial(print, end="", file=sys.stderr), level="warning", log_format="json", hub=hub)
    return hub


def own_lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]


async def test_a_watcher_is_shown_what_the_log_leaves_out_from_its_level_up(
    hub: LogHub, autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        hub.watch("debug", colour=False, cut=do_nothing) as all_of_it,
        hub.watch("info", colour=False, cut=do_nothing) as most,
    ):
        log = structlog.get_logger().bind(resource="a")
        for level in ("debug", "info", "warning", "error", "critical"):
            getattr(log, level)(f"it is {level}")
        lines = (await all_of_it.take()).splitlines()
        assert ["it is" in line and "resource=a" in line for line in lines] == [True] * 5
        assert (await most.take()).splitlines() == lines[1:]
    assert own_lines(capsys) == ["it is warning", "it is error", "it is critical"]


@pytest.mark.parametrize("colours", [False, True])
async def test_a_watcher_is_shown_the_line_that_a_log_of_text_has(
    colours: bool,  # noqa: FBT001 # a table
    autojump_clock: trio.testing.MockClock,
) -> None:
    hub, lines = LogHub(), list[str]()
    configure_logs(lines.append, level="info", log_format="text", colours=colours, hub=hub)
    with hub.watch("info", colour=colours, cut=do_nothing) as watcher:
        structlog.get_logger().info("request", method="GET", cache="hit", path="/")
        logging.getLogger("library").warning("says")
        assert await watcher.take() == "".join(lines)


async def test_what_nobody_watches_is_not_even_made(hub: LogHub, capsys: pytest.CaptureFixture[str]) -> None:
    class Costly:
        shown = 0

        def __repr__(self) -> str:
            self.shown += 1
            return "costly"

    value, log = Costly(), structlog.get_logger().bind()
    with hub.watch("info", colour=False, cut=do_nothing):
        log.debug("too low for who watches", value=value)
        assert value.shown == 0
        log.info("watched", value=value)
        assert value.shown == 1
    log.info("nobody watches any more", value=value)
    assert value.shown == 1
    assert own_lines(capsys) == []


async def test_colour_is_there_only_for_those_who_want_it(hub: LogHub, autojump_clock: trio.testing.MockClock) -> None:
    with (
        hub.watch("info", colour=True, cut=do_nothing) as coloured,
        hub.watch("info", colour=False, cut=do_nothing) as plain,
    ):
        structlog.get_logger().warning("evil \x1b[31m\nforged")
        text = await plain.take()
        assert "\x1b" not in text
        assert text.endswith("evil \\x1b[31m\\nforged\n")
        assert "\x1b[" in await coloured.take()


async def test_one_event_is_one_line_and_so_is_a_traceback(hub: LogHub, autojump_clock: trio.testing.MockClock) -> None:
    with hub.watch("info", colour=False, cut=do_nothing) as watcher:
        structlog.get_logger().error("defect", exc_info=ValueError("first\nsecond"))
        (line,) = (await watcher.take()).splitlines()
        assert line.index("defect") < line.index("ValueError: first")
        assert line.endswith("  | second")


async def test_lines_of_libraries_and_of_other_threads_are_shown(
    hub: LogHub, autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    with hub.watch("info", colour=False, cut=do_nothing) as watcher:
        async with trio.open_nursery() as nursery:
            texts: list[str] = []

            async def take() -> None:
                texts.append(await watcher.take())

            nursery.start_soon(take)
            await trio.testing.wait_all_tasks_blocked()
            thread = threading.Thread(target=structlog.get_logger().info, args=("from a thread",))
            thread.start()
        thread.join()
        assert "from a thread" in texts[0]
        logging.getLogger("library").error("from a library")
        logging.getLogger("library").log(35, "of a level of its own")
        assert [line.split("] ")[1].strip() for line in (await watcher.take()).splitlines()] == [
            "from a library",
            "of a level of its own",
        ]
    assert own_lines(capsys) == ["from a library", "of a level of its own"]


async def test_who_does_not_keep_up_misses_lines_is_told_how_many_and_goes_on(
    hub: LogHub, autojump_clock: trio.testing.MockClock
) -> None:
    with hub.watch("debug", colour=False, cut=do_nothing) as watcher:
        for number in range(MAX_WAITING + 7):
            structlog.get_logger().debug(f"number {number}.")
        *lines, last = (await watcher.take()).splitlines()
        assert len(lines) == MAX_WAITING
        assert f"number {MAX_WAITING - 1}." in lines[-1]
        assert last.startswith("7 lines are missing here")
        structlog.get_logger().debug("later")
        (line,) = (await watcher.take()).splitlines()
        assert "later" in line


async def test_lines_that_come_right_after_each_other_go_out_together_and_later_ones_do_not_wait_for_more(
    hub: LogHub,
    autojump_clock: trio.testing.MockClock,
) -> None:
    began = trio.current_time()
    with hub.watch("debug", colour=False, cut=do_nothing) as watcher:

        async def log() -> None:
            for name in ("first", "second"):
                structlog.get_logger().debug(name)
                await trio.sleep(0.01)
            await trio.sleep(1)
            structlog.get_logger().debug("third")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(log)
            for names in (["first", "second"], ["third"]):
                assert [line.split()[-1] for line in (await watcher.take()).splitlines()] == names
            assert trio.current_time() - began < 1.2


async def test_one_watcher_too_many_takes_the_place_of_who_has_watched_longest(hub: LogHub) -> None:
    cut: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_hub, "MAX_WATCHERS", 2)
        with (
            hub.watch("debug", colour=False, cut=lambda: cut.append("first")) as first,
            hub.watch("info", colour=False, cut=lambda: cut.append("second")),
        ):
            with hub.watch("info", colour=False, cut=lambda: cut.append("third")):
                assert cut == ["first"]
                assert hub.level == logging.INFO
                structlog.get_logger().error("not for him")
            with hub.watch("warning", colour=False, cut=do_nothing):
                assert cut == ["first"]
            assert await first.take() == ""
    assert hub.level > logging.CRITICAL
    assert MAX_WATCHERS == 64


async def test_at_the_end_the_last_lines_are_had_and_who_stays_is_cut(
    hub: LogHub, autojump_clock: trio.testing.MockClock
) -> None:
    cut: list[str] = []
    with hub.watch("info", colour=False, cut=lambda: cut.append("stalled")):
        async with trio.open_nursery() as nursery:
            with hub.watch("info", colour=False, cut=lambda: cut.append("prompt")) as prompt:
                structlog.get_logger().info("last words")
                nursery.start_soon(hub.close)
                await trio.testing.wait_all_tasks_blocked()
                assert "last words" in await prompt.take()
                assert await prompt.take() == ""
        assert cut == ["stalled"]
    with hub.watch("info", colour=False, cut=do_nothing) as late:
        assert await late.take() == ""

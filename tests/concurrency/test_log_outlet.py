"""Log lines on their way out: nobody waits for them, whatever becomes of the place that they go to."""

from __future__ import annotations

import errno
import json
import os
import threading
import tracemalloc
from typing import TYPE_CHECKING

import pytest
import structlog
import trio
from tests.log_state import restored_logs

from pkgserver_trio.logs.outlet import Outlet, StandardOutput, spread
from pkgserver_trio.logs.setup import configure_logs

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_SECONDS = 20


class Place:
    """A sink that waits for `open`, and fails as long as `error` is set."""

    name = "a place"

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.error: OSError | None = None
        self.attempts = 0
        self.attempted = threading.Event()
        self.written = b""
        self.closed = 0

    def write(self, lines: bytes) -> None:
        self.attempts += 1
        self.attempted.set()
        assert self.open.wait(PATIENCE_SECONDS)
        if self.error is not None:
            raise self.error
        self.written += lines

    def close(self) -> None:
        self.closed += 1


@pytest.fixture(autouse=True)
def _restored_logs() -> Iterator[None]:
    with restored_logs():
        yield


@pytest.fixture
def place() -> Place:
    return Place()


def log_to(outlet: Outlet) -> None:
    configure_logs(outlet.put, level="info", log_format="json")


def events_of(written: bytes) -> list[str]:
    return [json.loads(line)["event"] for line in written.splitlines()]


def test_what_is_queued_is_written_at_the_end_in_its_order(place: Place) -> None:
    outlet = Outlet(place)
    lines = [f"{number}\n" for number in range(1000)]
    for line in lines:
        outlet.put(line)
    outlet.close()
    assert place.written.decode() == "".join(lines)
    assert place.closed == 1


def test_lines_are_written_together(place: Place) -> None:
    outlet = Outlet(place)
    for number in range(1000):
        outlet.put(f"{number}\n")
    outlet.close()
    assert place.attempts < 100


def test_a_place_that_hangs_holds_up_nobody_and_the_end_only_for_a_moment(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pkgserver_trio.logs.outlet._CLOSE_SECONDS", 0.01)
    place.open.clear()
    outlet, other = Outlet(place), Place()
    second = Outlet(other)
    put = spread([outlet, second])
    put("a line\n")
    assert place.attempted.wait(PATIENCE_SECONDS)
    put("another line\n")
    second.close()
    assert other.written == b"a line\nanother line\n"
    outlet.close()
    assert place.written == b""
    place.open.set()


def test_a_full_disk_fails_nobody_and_how_much_was_lost_is_said_when_there_is_room(place: Place) -> None:
    outlet = Outlet(place)
    log_to(outlet)
    place.error = OSError(errno.ENOSPC, "No space left on device")
    for _ in range(5):
        place.attempted.clear()
        structlog.get_logger().info("lost")
        assert place.attempted.wait(PATIENCE_SECONDS)
    outlet.reopen()
    place.error = None
    structlog.get_logger().info("kept")
    outlet.close()
    (told,) = (json.loads(line) for line in place.written.splitlines() if b"were lost" in line)
    events = events_of(place.written)
    assert "kept" in events
    lost = 5 + 1 - events.count("lost") - events.count("the log cannot be written")
    assert (told["to"], told["lines"]) == ("a place", lost)


def test_that_a_place_fails_is_said_once_elsewhere(place: Place) -> None:
    other = Place()
    outlets = [Outlet(place), Outlet(other)]
    configure_logs(spread(outlets), level="info", log_format="json")
    place.error = OSError(errno.EIO, "Input/output error")
    for _ in range(3):
        place.attempted.clear()
        structlog.get_logger().info("half lost")
        assert place.attempted.wait(PATIENCE_SECONDS)
    for outlet in outlets:
        outlet.close()
    assert events_of(other.written).count("the log cannot be written") == 1
    assert events_of(other.written).count("half lost") == 3
    assert b"Input/output error" in other.written


def test_reopening_closes_and_goes_on(place: Place) -> None:
    outlet = Outlet(place)
    outlet.put("before\n")
    outlet.reopen()
    outlet.put("after\n")
    outlet.close()
    assert place.written == b"before\nafter\n"
    assert place.closed == 2


def test_a_place_that_hangs_while_it_is_opened_anew_holds_up_nobody(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    closing, release = threading.Event(), threading.Event()

    def close() -> None:
        closing.set()
        assert release.wait(PATIENCE_SECONDS)

    monkeypatch.setattr(place, "close", close)
    outlet = Outlet(place)
    outlet.reopen()
    assert closing.wait(PATIENCE_SECONDS)
    putting = threading.Thread(target=outlet.put, args=("a line\n",), daemon=True)
    putting.start()
    putting.join(1)
    blocked = putting.is_alive()
    release.set()
    outlet.close()
    assert not blocked
    assert place.written == b"a line\n"


def test_a_loss_is_said_when_there_is_room_to_say_it(place: Place) -> None:
    place.open.clear()
    outlet = Outlet(place, max_queued_bytes=4096)
    log_to(outlet)
    outlet.put("1" * 100 + "\n")
    assert place.attempted.wait(PATIENCE_SECONDS)
    for line in ("2" * 1500, "3" * 1500, "4" * 1500):
        outlet.put(f"{line}\n")
    place.open.set()
    outlet.close()
    first, second, third, told = place.written.splitlines()
    assert (first[:1], second[:1], third[:1]) == (b"1", b"2", b"3")
    assert json.loads(told)["lines"] == 1


async def test_a_flood_neither_grows_memory_without_bound_nor_blocks_the_loop(place: Place) -> None:
    """A hundred thousand lines, 12 MB, for a place that takes nothing: the loop goes on, and 1 MiB is kept."""
    place.open.clear()
    outlet = Outlet(place, max_queued_bytes=1024 * 1024)
    log_to(outlet)
    filler = "x" * 100
    tracemalloc.start()
    try:
        with trio.fail_after(10 * PATIENCE_SECONDS):
            for number in range(100_000):
                outlet.put(f'{{"event": "flood", "number": {number}, "filler": "{filler}"}}\n')
                if number % 1000 == 0:
                    await trio.lowlevel.checkpoint()
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 3 * 1024 * 1024
    place.open.set()
    await trio.to_thread.run_sync(outlet.close)
    lines = [json.loads(line) for line in place.written.splitlines()]
    kept = [line["number"] for line in lines if line["event"] == "flood"]
    (told,) = (line["lines"] for line in lines if line["event"] == "log lines were lost")
    assert kept == list(range(len(kept)))
    assert len(kept) + told == 100_000


def test_a_line_that_broke_off_is_followed_by_a_line_of_its_own() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    output = StandardOutput(writing)
    with pytest.raises(BlockingIOError):
        output.write(b"x" * 10_000_000)  # more than any pipe holds
    os.read(reading, 10_000_000)
    output.write(b"a line\n")
    output.close()
    output.write(b"another\n")
    assert os.read(reading, 100) == b"\na line\nanother\n"
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        output.write(b"to nobody\n")
    os.close(writing)

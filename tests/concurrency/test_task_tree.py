"""The report for an operator who asks why nothing moves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import trio
from tests.fakes import FakeTransport
from tests.lofts import open_loft, tarball
from tests.web.site import halved

from pkgserver_trio import task_tree
from pkgserver_trio.task_tree import flight_lines, task_lines, waits_in

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from trio.testing import MockClock

WANTED = tarball("wanted", 1_000_000)


async def test_downloads_and_who_waits_for_what_are_told(tmp_path: Path, autojump_clock: MockClock) -> None:
    release = trio.Event()
    host = FakeTransport({WANTED.path: WANTED.body}, {("GET", WANTED.path): halved(WANTED.body, release)})
    async with open_loft(tmp_path, {"one.invalid": host}) as loft, trio.open_nursery() as nursery:
        nursery.start_soon(loft.get, WANTED.resource, name="a reader")
        await trio.sleep(1.5)
        (flight,) = flight_lines(loft.downloads.flights)
        lines = list(task_lines())
        release.set()
    assert flight["written_bytes"] == flight["hashed_bytes"] == len(WANTED.body) // 2 + 1
    assert flight == {
        "resource": WANTED.resource.name,
        "server": "http://one.invalid",
        "written_bytes": flight["written_bytes"],
        "hashed_bytes": flight["hashed_bytes"],
        "size_bytes": len(WANTED.body),
        "seconds": 1.5,
        "verified": False,
    }
    (reader,) = (line for line in lines if line.strip().startswith("a reader: "))
    assert "progress:" in reader
    assert len([line for line in lines if f"flight {WANTED.resource}" in line]) == 1
    main = next(line for line in lines if "test_downloads_and_who_waits" in line)
    assert reader.index("a reader") > len(main) - len(main.lstrip())


async def test_a_task_that_is_not_ours_is_told_by_the_innermost_it_waits_in() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever, name="sleeper")
        await trio.testing.wait_all_tasks_blocked()
        assert "sleeper: sleep_forever" in "".join(task_lines())
        nursery.cancel_scope.cancel()


def test_a_task_that_runs_waits_nowhere() -> None:
    class Running:
        def iter_await_frames(self) -> list[object]:
            return []

    assert waits_in(Running()) == "running"  # type: ignore[arg-type] # all that is asked of it


def test_a_task_in_our_own_code_is_told_once() -> None:
    class Ours:
        def iter_await_frames(self) -> list[tuple[object, int]]:
            names = {"__name__": "pkgserver_trio.registries.flavor"}
            return [(SimpleNamespace(f_globals=names, f_code=SimpleNamespace(co_name="run")), 12)]

    assert waits_in(Ours()) == "registries.flavor:12 run"  # type: ignore[arg-type] # all that is asked of it


async def test_the_report_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_tree, "MAX_LINES", 5)
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(trio.sleep_forever)
        lines = list(task_lines())
        nursery.cancel_scope.cancel()
    assert len(lines) == 6
    assert lines[-1].startswith("and ")
    assert int(lines[-1].split()[1]) >= 96
    assert list(flight_lines([])) == []

"""The process around a server: what signals ask of it, and how it ends when it hangs."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import structlog
import trio
from structlog.testing import capture_logs
from tests.fakes import FakeUpstream
from tests.log_state import restored_logs
from tests.web.site import PATIENCE_SECONDS, STORAGE_SERVERS, halved, settings_for, until
from trio.testing import wait_all_tasks_blocked

from pkgserver_trio import process
from pkgserver_trio.logs.hub import LogHub
from pkgserver_trio.logs.outlet import Outlet
from pkgserver_trio.storage.store_lock import owned
from pkgserver_trio.supervise import HangError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.web.tarball import Tarball

    from pkgserver_trio.library import Library


class _Sink:
    """A sink that counts how often it is closed."""

    name = "nowhere"

    def __init__(self) -> None:
        self.closed = 0

    def write(self, lines: bytes) -> None:
        """Take nothing."""

    def close(self) -> None:
        self.closed += 1


async def test_signals_have_the_log_opened_anew_and_everything_told(tmp_path: Path, large: Tarball) -> None:
    release, stopping, sink = trio.Event(), trio.Event(), _Sink()
    outlet = Outlet(sink)
    script = {("GET", large.path): halved(large.body, release)}
    with capture_logs() as lines, trio.fail_after(PATIENCE_SECONDS):
        async with FakeUpstream({large.path: large.body}, script) as upstream, trio.open_nursery() as nursery:
            settings = settings_for(tmp_path, **{STORAGE_SERVERS: upstream.url})
            nursery.start_soon(process._run, settings, LogHub(), [outlet], stopping)
            await until(lambda: any(line["event"] == "serving" for line in lines))
            (url,) = (line["url"] for line in lines if line["event"] == "serving")
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: sink.closed)
            nursery.start_soon(ask, url, large.path)
            await upstream.wait_for("GET", large.path)
            os.kill(os.getpid(), signal.SIGUSR1)
            await until(lambda: any(line["event"] == "flight" for line in lines))
            release.set()
            stopping.set()
    await trio.to_thread.run_sync(outlet.close)
    (flight,) = (line for line in lines if line["event"] == "flight")
    assert (flight["resource"], flight["server"]) == (large.path[1:], upstream.url)
    tasks = [line["task"] for line in lines if line["event"] == "task"]
    assert any("registries eager" in task for task in tasks)
    assert any("supervise" in task for task in tasks)


async def ask(url: str, path: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        try:
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass  # it is cut when the server stops


async def test_a_server_that_waits_for_its_store_stops_when_it_is_asked_to(tmp_path: Path) -> None:
    stopping = trio.Event()
    async with owned(tmp_path):
        with trio.fail_after(5):  # it would wait for ten
            async with trio.open_nursery() as nursery:
                nursery.start_soon(process._run, settings_for(tmp_path), LogHub(), [], stopping)
                await wait_all_tasks_blocked()
                stopping.set()


async def test_a_report_of_many_tasks_holds_nobody_up() -> None:
    turns = 0

    async def work() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    library = SimpleNamespace(downloads=SimpleNamespace(flights=[]))
    with capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(work)
            await process.report([cast("Library", library)])
            nursery.cancel_scope.cancel()
    assert len(lines) > 100
    assert turns > 100


def test_a_hang_is_exit_code_1() -> None:
    async def hang(_: trio.Event) -> None:
        await trio.lowlevel.checkpoint()
        raise HangError("a loop has not come round")

    with capture_logs() as lines:
        assert process.run_until_signal(hang) == 1
    assert lines == []  # the watchdog itself has told


def test_what_hangs_so_that_it_cannot_be_cancelled_is_ended_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    codes, ended = list[int](), threading.Event()

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    monkeypatch.setattr(process, "_LAST_SECONDS", 0)
    monkeypatch.setattr(os, "_exit", end)
    process._end_soon()
    assert ended.wait(PATIENCE_SECONDS)
    assert codes == [1]


@pytest.fixture
def _restored_process() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGUSR1)}
    switch_seconds = sys.getswitchinterval()
    with restored_logs():
        yield
    sys.setswitchinterval(switch_seconds)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_restored_process")
def test_the_log_is_where_it_was_configured_and_whole_at_the_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def tell(_: object) -> int:
        structlog.get_logger().info("the last line")
        return 0

    monkeypatch.setattr(process, "run_until_signal", tell)
    assert process.serve(settings_for(tmp_path, JULIA_PKG_SERVER_LOGS_DIR=str(tmp_path / "logs"))) == 0
    (file,) = (tmp_path / "logs").iterdir()
    assert file.read_text() == capfd.readouterr().out
    assert "the last line" in file.read_text()

"""The process around a server: its limits, the signals that end it, its exit codes.

SIGTERM and SIGINT end a server in the orderly way, exit 0; a second one ends it at once. SIGHUP has the log file opened
anew, SIGUSR1 writes to the log what every task waits for, and how far every download is; before there is a server, and
when it has ended, these two do nothing.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import trio

from pkgserver_trio.errors import most_telling
from pkgserver_trio.logs.hub import LogHub
from pkgserver_trio.logs.setup import open_logs
from pkgserver_trio.main import run
from pkgserver_trio.opening import StartError
from pkgserver_trio.settings import SettingsError
from pkgserver_trio.storage.store_lock import StoreLockedError
from pkgserver_trio.supervise import HangError
from pkgserver_trio.task_tree import flight_lines, task_lines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from pkgserver_trio.library import Library
    from pkgserver_trio.logs.outlet import Outlet
    from pkgserver_trio.main import Running
    from pkgserver_trio.settings import Settings

#: How long threads wait for the interpreter lock; shorter keeps the event loop prompt beside a busy hasher (measured).
_SWITCH_SECONDS = 0.0005
#: How long a server that hangs gets to end by itself.
_LAST_SECONDS = 10
#: What asks a running server for something. Left alone, they would end the process.
_REQUESTS = (signal.SIGHUP, signal.SIGUSR1)


def serve(settings: Settings) -> int:
    """Run the server until a signal stops it; return the exit code (docs/settings.md, "Exit codes")."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    for number in _REQUESTS:
        signal.signal(number, signal.SIG_IGN)
    hub, folder = LogHub(), Path(settings.logs_dir)
    with open_logs(level=settings.log_level, log_format=settings.log_format, folder=folder, hub=hub) as outlets:
        return run_until_signal(partial(_run, settings, hub, outlets))


async def _run(settings: Settings, hub: LogHub, outlets: Sequence[Outlet], stopping: trio.Event) -> None:
    """Run the server, and do what signals ask for meanwhile. One that is to stop before it serves ends at once."""
    starting = trio.CancelScope()
    with trio.open_signal_receiver(*_REQUESTS) as received:
        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as serving:
                with starting:
                    nursery.start_soon(_cancel_on, stopping, starting)
                    running = await serving.start(partial(run, settings, stopping, hub=hub, last_resort=_end_soon))
                    nursery.start_soon(_obey, received, outlets, running)
            nursery.cancel_scope.cancel()


async def _cancel_on(stopping: trio.Event, scope: trio.CancelScope) -> None:
    await stopping.wait()
    scope.cancel()


async def _obey(received: AsyncIterator[int], outlets: Sequence[Outlet], running: Running) -> None:
    async for number in received:
        if number == signal.SIGHUP:
            for outlet in outlets:
                outlet.reopen()
            structlog.get_logger().info("log opened anew")
        else:
            await report([running.library] if running.mirror is None else [running.library, running.mirror.library])


async def report(libraries: Sequence[Library]) -> None:
    """Write to the log, at the level of a warning, what every task waits for, and how far every download is.

    All of it is as of one moment; it is written line by line, since nobody should wait for thousands of them.
    """
    log = structlog.get_logger()
    tasks, flights = list(task_lines()), [w for library in libraries for w in flight_lines(library.downloads.flights)]
    for line in tasks:
        log.warning("task", task=line)
        await trio.lowlevel.checkpoint()
    for words in flights:
        log.warning("flight", **words)
        await trio.lowlevel.checkpoint()


def _end_soon() -> None:
    """End the process in a while, whatever still runs in it: what hangs may be a thread, which nothing can cancel."""
    timer = threading.Timer(_LAST_SECONDS, os._exit, (1,))
    timer.daemon = True
    timer.start()


def run_until_signal(start: Callable[[trio.Event], Awaitable[int | None]]) -> int:
    """Run `start` with an event that SIGTERM and SIGINT set.

    Return its exit code, 2 when its settings cannot be used, 1 when it cannot start, lost its store to another, or
    hangs.
    """

    async def supervise() -> int:
        stopping = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(_receive_signals, stopping)
            code = await start(stopping)
            nursery.cancel_scope.cancel()
        return code or 0

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection and a file for each client
    refusals: list[BaseException] = []
    code = 1
    try:
        code = trio.run(supervise)
    except* (StartError, StoreLockedError, SettingsError) as group:
        refusals.append(most_telling(group))
    except* HangError:
        code = 1  # the watchdog has told why
    for refusal in refusals:
        structlog.get_logger().error("cannot serve", reason=str(refusal))
        code = 2 if isinstance(refusal, SettingsError) else 1
    return code


async def _receive_signals(stopping: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        task_status.started()
        async for number in received:
            if stopping.is_set():
                os._exit(128 + number)  # asked twice: at once, and whatever is left in temp/ the next start removes
            structlog.get_logger().info("stopping", signal=signal.Signals(number).name)
            stopping.set()

"""The process around a server: its limits, the signals that end it, its exit codes.

SIGTERM and SIGINT end a server in the orderly way, exit 0; a second one ends it at once.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from typing import TYPE_CHECKING

import structlog
import trio

from pkgserver_trio.errors import most_telling
from pkgserver_trio.log_hub import LogHub
from pkgserver_trio.logs import configure_logs
from pkgserver_trio.main import run
from pkgserver_trio.opening import StartError
from pkgserver_trio.settings import SettingsError
from pkgserver_trio.store_lock import StoreLockedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pkgserver_trio.settings import Settings

#: How long threads wait for the interpreter lock; shorter keeps the event loop prompt beside a busy hasher (measured).
_SWITCH_SECONDS = 0.0005


def serve(settings: Settings) -> int:
    """Run the server until a signal stops it; return the exit code (docs/settings.md, "Exit codes")."""
    hub = LogHub()
    configure_logs(level=settings.log_level, log_format=settings.log_format, hub=hub)
    sys.setswitchinterval(_SWITCH_SECONDS)
    return run_until_signal(lambda stopping: run(settings, stopping, hub=hub))


def run_until_signal(start: Callable[[trio.Event], Awaitable[int | None]]) -> int:
    """Run `start` with an event that SIGTERM and SIGINT set.

    Return its exit code, 2 when its settings cannot be used, 1 when it cannot start, or lost its store to another.
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

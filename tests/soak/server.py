"""The server under test: the built zipapp as a child process, with its settings in its environment, and its log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Final

import trio
from tests.integration.zipapp import PYZ
from tests.soak.catalogue import MAX_CACHE_BYTES, MAX_UNPACKED_BYTES, REGISTRIES
from tests.soak.operators import PASSWORD_SHA256
from trio_util import AsyncBool

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.soak.ledger import Ledger

#: Impatient, so that faults pass quickly.
_SETTINGS: Final = {
    "PKGSERVER_ORIGIN_CHECK": "off",
    "JULIA_PKG_SERVER_REGISTRY_UPDATE_PERIOD": "0.5",
    "PKGSERVER_PUBLIC_URL": "https://soak.invalid",
    "PKGSERVER_REGISTRIES": ",".join(REGISTRIES),
    "PKGSERVER_KEEP_FREE": "0",
    "PKGSERVER_MAX_CACHE": str(MAX_CACHE_BYTES),
    "PKGSERVER_MAX_UNPACKED": str(MAX_UNPACKED_BYTES),
    "PKGSERVER_CONNECT_SECONDS": "1",
    "PKGSERVER_HEAD_SECONDS": "1",
    "PKGSERVER_BODY_SECONDS": "1",
    "PKGSERVER_NEGATIVE_SECONDS": "1",
    "PKGSERVER_READ_STALL_SECONDS": "2",
    "PKGSERVER_REQUEST_HEAD_SECONDS": "2",
    "PKGSERVER_GRACEFUL_SECONDS": "2",
    "PKGSERVER_DRAIN_SECONDS": "2",
    "PKGSERVER_LOG_FORMAT": "json",
    "JULIA_PKG_SERVER_ADMIN_TOKEN_SHA256": PASSWORD_SHA256,
}
_START_SECONDS: Final = 30
_STOP_SECONDS: Final = 20


class ServerProcess:
    """The server; after it was killed it can be started again, on the same port and store. Its log is one file."""

    def __init__(self, folder: Path, storage_ports: Sequence[int], ledger: Ledger, nursery: trio.Nursery) -> None:
        self.root, self.log = folder / "store", folder / "server.log"
        self.port = 0
        self._upstreams = ",".join(f"http://127.0.0.1:{port}" for port in storage_ports)
        self._ledger, self._nursery = ledger, nursery
        self._exit_codes: dict[int, int] = {}  # by pid: of those that were told to end
        self._lines, self._rambling = 0, False
        self._serving = AsyncBool(False)  # noqa: FBT003 # its only parameter
        self._process: trio.Process | None = None

    @property
    def pid(self) -> int:
        return self._running.pid

    @property
    def _running(self) -> trio.Process:
        assert self._process is not None, "not started"
        return self._process

    async def wait_until_serving(self) -> None:
        await self._serving.wait_value(True)  # noqa: FBT003 # the same

    async def start(self) -> None:
        """Start it, and return when it serves. Raises trio.TooSlowError."""
        environment = {
            **_SETTINGS,
            "JULIA_PKG_SERVER": f"127.0.0.1:{self.port}",
            "JULIA_PKG_SERVER_STORAGE_ROOT": str(self.root),
            "JULIA_PKG_SERVER_STORAGE_SERVERS": self._upstreams,
            "SHIV_ROOT": str(PYZ.parents[1] / "build" / "unpacked"),
            "PATH": os.environ["PATH"],
        }
        open_process = partial(trio.lowlevel.open_process, stdout=subprocess.PIPE, env=environment, cwd=self.log.parent)
        self._process = await open_process([sys.executable, str(PYZ)])
        self._nursery.start_soon(self._follow, self._process)
        with trio.fail_after(_START_SECONDS):
            await self.wait_until_serving()

    async def kill(self) -> None:
        """Kill it with no warning."""
        await self._end(signal.SIGKILL, -signal.SIGKILL)

    async def stop(self) -> None:
        """Ask it to end, as an operator would."""
        await self._end(signal.SIGTERM, 0)

    def leave_nothing(self) -> None:
        """End it at once, if it still runs: however the soak itself ended."""
        if self._process is not None and self._process.returncode is None:
            self._exit_codes[self.pid] = -signal.SIGKILL
            self._process.kill()

    async def _end(self, number: signal.Signals, code: int) -> None:
        self._exit_codes[self.pid] = code
        self._serving.value = False
        self._running.send_signal(number)
        with trio.move_on_after(_STOP_SECONDS):
            await self._running.wait()
            return
        self._running.kill()
        self._ledger.defects.append(f"the server did not end within {_STOP_SECONDS} s of {number.name}")

    async def _follow(self, process: trio.Process) -> None:
        """Copy the log to its file, and look what it says, until the process ends."""
        assert process.stdout is not None
        unfinished = b""
        with self.log.open("ab") as log:
            async for piece in process.stdout:
                log.write(piece)
                log.flush()
                *lines, unfinished = (unfinished + piece).split(b"\n")
                for line in lines:
                    self._look_at(line)
        code, expected = await process.wait(), self._exit_codes.get(process.pid)
        if code != expected:
            self._ledger.defects.append(f"the server ended with exit code {code}, expected {expected}")
        if expected is None:
            self._serving.value = False
            await self.start()  # there may be more to find

    def _look_at(self, line: bytes) -> None:
        self._lines += 1
        if not line.startswith(b"{"):
            if not self._rambling:  # one defect for a whole traceback
                self._ledger.defects.append(f"the server's log, from line {self._lines}: {line.decode()}")
            self._rambling = True
            return
        self._rambling = False
        entry = json.loads(line)
        if entry["event"] == "serving":
            self.port = int(entry["url"].rpartition(":")[2])
            self._serving.value = True
        if entry["level"] in {"error", "critical"}:
            self._ledger.defects.append(f"the server's log: {line.decode()}")

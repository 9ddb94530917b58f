"""The zipapp as an operator runs it: a process, settings in its environment, its address in its log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_END_SECONDS = 30
PYZ = Path(__file__).parents[2] / "dist" / "pkgserver.pyz"


@dataclass(frozen=True)
class RunningZipapp:
    """A server that says that it is serving, at `url`."""

    url: str
    process: subprocess.Popen[str]


@contextmanager
def running_zipapp(
    folder: Path, environment: Mapping[str, str], *, python: str = sys.executable, exit_code: int = 0
) -> Iterator[RunningZipapp]:
    """Run the zipapp, built by `make pyz`, with its store and its log in `folder`; it must end with `exit_code`."""
    folder.mkdir(exist_ok=True)
    settings = {
        "JULIA_PKG_SERVER": "127.0.0.1:0",
        "JULIA_PKG_SERVER_STORAGE_ROOT": str(folder / "store"),
        "PKGSERVER_KEEP_FREE": "0",
        "PKGSERVER_LOG_FORMAT": "json",
        "PKGSERVER_ORIGIN_CHECK": "off",
        "SHIV_ROOT": str(PYZ.parents[1] / "build" / "unpacked"),
        "PATH": os.environ["PATH"],
        **environment,
    }
    command = [python, str(PYZ)]
    with subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, text=True, cwd=folder) as process:
        assert process.stdout is not None
        try:
            lines = []
            for line in process.stdout:
                lines.append(line)
                if '"serving"' in line:
                    break
            assert process.poll() is None, "".join(lines)
            yield RunningZipapp(json.loads(lines[-1])["url"], process)
        finally:
            process.terminate()
            last_resort = threading.Timer(_END_SECONDS, process.kill)
            last_resort.start()
            log = process.stdout.read()  # `communicate` would leave out what is buffered already
            process.wait()
            last_resort.cancel()
            (folder / "log").write_text("".join(lines) + log)
    assert process.returncode == exit_code, log

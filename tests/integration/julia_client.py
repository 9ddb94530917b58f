"""A real Julia client: scripts run by Julia 1.5.3 in the chroot of `julia/make-chroot`, each client with its own depot.

1. A client is stranded: no name server, no environment but what is given here. What it gets, the server gave it.
2. A client that overruns its time is killed with everything it started.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conftest import require

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

RUN_IN_CHROOT = Path(__file__).parent / "julia" / "run-in-chroot"
HOW_TO_GET = "as root, tests/integration/julia/make-chroot ~/.cache/pkgserver-trio"


def require_chroot() -> Path:
    """Return the Julia chroot; without one, or without the root that entering it takes, skip or fail the test."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    chroot = cache / "pkgserver-trio" / "julia-1.5.3"
    require("julia", available=chroot.is_dir() and os.geteuid() == 0, how_to_get=HOW_TO_GET)
    return chroot


@dataclass(frozen=True)
class Outcome:
    """How a script ended: its exit code (negative: the signal that ended it) and its whole output."""

    exit_code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class JuliaClient:
    """Julia with the depot in the folder `depot` (empty for a fresh client), pointed at the server at `server_url`.

    The server must have an address, not a name, unless the file `hosts` has the name. `environment` is added to the
    client's, so that `JULIA_PKG_SERVER_REGISTRY_PREFERENCE` and its like can be set. `run` raises
    `subprocess.TimeoutExpired` past `limit_seconds`.
    """

    chroot: Path
    depot: Path
    server_url: str
    limit_seconds: float = 90
    environment: Mapping[str, str] = field(default_factory=dict)
    hosts: Path | None = None

    def run(self, script: str) -> Outcome:
        """Run `script`, Julia source text, to its end."""
        with self._started(script) as process:
            stdout, stderr = process.communicate(timeout=self.limit_seconds)
        return Outcome(process.returncode, stdout, stderr)

    @contextmanager
    def _started(self, script: str) -> Iterator[subprocess.Popen[str]]:
        settings = {"JULIA_PKG_SERVER": self.server_url, "JULIA_DEPOT_PATH": "/depot", **self.environment}
        command = [
            *(str(RUN_IN_CHROOT), str(self.chroot), str(self.depot)),
            *(f"{name}={value}" for name, value in settings.items()),
            *("julia", "--startup-file=no", "--history-file=no", "--color=no", "-e", script),
        ]
        pipe = subprocess.PIPE
        outside = {**os.environ, "PKGSERVER_HOSTS": str(self.hosts or "")}
        with subprocess.Popen(
            command, env=outside, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        ) as process:
            try:
                yield process
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()  # its pipes end with the last of its children
                raise

"""gixy finds nothing in any variant of the configuration, nor in the socket proxies', but what is meant."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.conftest import require
from tests.deployment import socket_proxy
from tests.deployment.front_end.running import PORTS, lay_out

if TYPE_CHECKING:
    from collections.abc import Mapping

MEANT = {
    "hsts_header",  # port 8000 stays open in plain HTTP
    "try_files_is_evil_too",  # the cache of open files that it wants would keep the room of evicted ones
    "ssrf",  # where a bucket comes from is for .env to say; a path with its slash follows that
    "add_header_redefinition",  # an answer that nginx has begun has its headers already
}
NAMED = {"PKG_SERVER_FQDN": "pkg.example.org", "CERTBOT_EMAIL": "admin@example.org"}
EVERYTHING = {
    "FRONTEND_PROXIES": "10.0.0.0/8",
    "METRICS_ALLOW": "10.0.0.0/8",
    "LIMIT_REQUESTS_PER_SECOND": "5",
    "LIMIT_CONNECTIONS": "5",
    "LIMIT_EXEMPT": "10.0.0.0/8",
}


def run_gixy(main: Path, *skipped: str) -> subprocess.CompletedProcess[str]:
    gixy = shutil.which("gixy", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    require("gixy", available=gixy is not None, how_to_get="python -m pip install -r requirements-dev.lock")
    command = [str(gixy), "--skips", ",".join(skipped), str(main)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("settings", [{}, EVERYTHING, {"DISABLE_TLS": "1"}], ids=["plain", "everything", "no TLS"])
def test_gixy_finds_nothing(tmp_path: Path, settings: Mapping[str, str]) -> None:
    main = lay_out(tmp_path, {**NAMED, **settings}, {}, {port: port for port in PORTS})
    found = run_gixy(main, *MEANT)
    assert (found.returncode, "Problem" in found.stdout) == (0, False), found.stdout


@pytest.mark.parametrize("meant", sorted(MEANT))
def test_what_gixy_may_not_find_is_there(tmp_path: Path, meant: str) -> None:
    main = lay_out(tmp_path, NAMED, {}, {port: port for port in PORTS})
    found = run_gixy(main, *(MEANT - {meant}))
    assert f"[{meant}]" in found.stdout


@pytest.mark.parametrize("client", socket_proxy.CLIENTS)
def test_gixy_finds_nothing_in_a_socket_proxy(tmp_path: Path, client: str) -> None:
    found = run_gixy(socket_proxy.lay_out(tmp_path, client, 2375))
    assert (found.returncode, "Problem" in found.stdout) == (0, False), found.stdout

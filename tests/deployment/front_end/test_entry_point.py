"""The front end's entry point as the first process of a container, with scripts for nginx and `write-conf`."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.acceptance.target import eventually
from tests.deployment.front_end.running import CONFIGURATION

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The kernel drops what the first process of its namespace has no handler for.
NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child")


@pytest.fixture
def begun(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """Give the process, once it writes the configuration; the parameter is what nginx does."""
    shutil.copy(CONFIGURATION / "start", tmp_path)
    write_conf = 'touch "${0%/*}/begun"; while [ ! -e "${0%/*}/may-end" ]; do sleep 0.05; done\n'
    (tmp_path / "write-conf").write_text(write_conf)
    nginx = tmp_path / "nginx"
    nginx.write_text(f'#!/bin/sh\ntouch "${{0%/*}}/served"\n{request.param}\n')
    nginx.chmod(0o755)
    command = [*NAMESPACE, "sh", str(tmp_path / "start")]
    with subprocess.Popen(command, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}) as process:
        try:
            eventually((tmp_path / "begun").exists)
            yield process
        finally:
            process.kill()


def first_process(outside: subprocess.Popen[bytes]) -> int:
    """Return the identifier that the first process of the namespace has outside of it."""
    return int(Path(f"/proc/{outside.pid}/task/{outside.pid}/children").read_text().split()[0])


@pytest.mark.parametrize("begun", ["sleep 60"], indirect=True)
def test_told_to_end_before_nginx_runs_it_ends(begun: subprocess.Popen[bytes], tmp_path: Path) -> None:
    subprocess.run(["kill", f"-{signal.SIGTERM.name[3:]}", str(first_process(begun))], check=True)
    (tmp_path / "may-end").touch()
    begun.wait(timeout=10)
    assert not (tmp_path / "served").exists()


@pytest.mark.parametrize(("begun", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137)], indirect=["begun"])
def test_it_ends_with_nginx(begun: subprocess.Popen[bytes], code: int, tmp_path: Path) -> None:
    (tmp_path / "may-end").touch()
    assert begun.wait(timeout=10) == code
    assert (tmp_path / "served").exists()

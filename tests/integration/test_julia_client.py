from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from tests.integration.julia_client import JuliaClient, require_chroot

pytestmark = pytest.mark.integration

NOWHERE = "http://127.0.0.1:9"


def is_running(*command: str) -> bool:
    wanted = "\0".join((*command, ""))
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            if (process / "cmdline").read_text() == wanted:
                return True
    return False


def test_julia_writes_into_the_depot_it_was_given(tmp_path: Path) -> None:
    client = JuliaClient(require_chroot(), tmp_path, NOWHERE, environment={"JULIA_PKG_SERVER_FOR_TEST": "yes"})

    outcome = client.run('print(VERSION, ENV["JULIA_PKG_SERVER_FOR_TEST"]); write(DEPOT_PATH[1] * "/proof", "written")')

    assert (outcome.exit_code, outcome.stdout) == (0, "1.5.3yes")
    assert (tmp_path / "proof").read_text() == "written"


def test_failed_script_tells_its_exit_code_and_why(tmp_path: Path) -> None:
    outcome = JuliaClient(require_chroot(), tmp_path, NOWHERE).run('error("no such luck")')

    assert outcome.exit_code == 1
    assert "no such luck" in outcome.stderr


def test_client_without_a_server_gets_nothing_from_anywhere_else(tmp_path: Path) -> None:
    outcome = JuliaClient(require_chroot(), tmp_path, NOWHERE).run('using Pkg; Pkg.add("Example")')

    assert outcome.exit_code == 1
    assert not (tmp_path / "packages").exists()


def test_script_past_its_time_is_killed_with_its_children(tmp_path: Path) -> None:
    sleep = ("sleep", f"1000.{os.getpid()}")  # no other process is called so
    client = JuliaClient(require_chroot(), tmp_path, NOWHERE, limit_seconds=1.5)

    with pytest.raises(subprocess.TimeoutExpired):
        client.run(f'touch(DEPOT_PATH[1] * "/started"); run(`setsid {" ".join(sleep)}`)')

    assert (tmp_path / "started").exists()
    assert not is_running(*sleep)

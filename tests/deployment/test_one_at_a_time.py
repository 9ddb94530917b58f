"""What `make` asks of the engine, in which order, and that two never change the deployment at one time.

The engine is a script that writes down what it is asked.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from tests.acceptance.target import eventually
from tests.deployment.stack import FQDN, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: watchtower, told to look once, is at it until it may end; the server's word on its settings is that of a file.
DOCKER = """#!/bin/sh
echo "$*" >>"$FOLDER/calls"
case $* in
"compose version"*) echo 2.30.0 ;;
"context inspect"*) echo unix:///var/run/docker.sock ;;
"network inspect"*) echo 172.29.213.0/24 ;;
*" ps "*" watchtower") echo 0123456789ab ;;
*--run-once) while [ ! -e "$FOLDER/may-end" ]; do /bin/sleep 0.05; done ;;
*check-config) [ ! -e "$FOLDER/settings-are-wrong" ] || exit 2 ;;
"image inspect"*) echo sha256:newest ;;
"inspect "*) [ ! -e "$FOLDER/gone" ] && echo healthy sha256:newest ;;
esac
"""
SETTINGS = f"PKG_SERVER_FQDN={FQDN}\nDISABLE_TLS=1\nPKGSERVER_IMAGE=registry.example.org/pkgserver-trio\n"
BUSY = "Another make is changing the deployment: try again when it is done"
CHANGES = ("up", "restart", "down", "trigger-update", "stop-update")


@dataclass(frozen=True)
class Host:
    """A host with a deployment that was started once."""

    folder: Path

    def begin(self, *targets: str) -> subprocess.Popen[str]:
        """Run make, as a terminal does: in a process group of its own."""
        programs = self.folder / "bin"
        return subprocess.Popen(
            [programs / "make", *targets],
            cwd=self.folder,
            env={"PATH": str(programs), "FOLDER": str(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def make(self, *targets: str) -> tuple[int, str]:
        """Return the exit code of make, and what it says."""
        with self.begin(*targets) as making:
            said, _ = making.communicate(timeout=60)
        return making.returncode, said

    def calls(self) -> list[str]:
        """Return what the engine was asked to do with containers so far, without what is the same in all."""
        lines = (self.folder / "calls").read_text().splitlines()
        begin = "compose --project-directory . --file compose/compose.yaml "
        calls = [line.removeprefix(begin).replace("--progress quiet ", "") for line in lines if line.startswith(begin)]
        return [call.removeprefix("--profile update ") for call in calls if " --quiet" not in call]

    def forget(self) -> None:
        (self.folder / "calls").write_text("")


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host(unpack())
    docker = host.folder / "bin/docker"
    docker.unlink()
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    (host.folder / ".env").write_text(SETTINGS)
    assert host.make("up")[0] == 0
    host.forget()
    yield host
    shutil.rmtree(host.folder)


def looks(host: Host) -> bool:
    return any(call.endswith("--run-once") for call in host.calls())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_update_that_somebody_ends_leaves_no_updates_stopped(host: Host, number: signal.Signals) -> None:
    with host.begin("trigger-update") as making:
        eventually(lambda: looks(host))
        os.killpg(making.pid, number)
        said, _ = making.communicate(timeout=20)
    assert making.returncode != 0
    assert "make up brings it back" in said
    eventually(lambda: host.calls()[-1] == "start watchtower")
    assert host.calls()[0] == "stop watchtower"


def test_update_that_nobody_ends_goes_on_looking_in_the_end(host: Host) -> None:
    (host.folder / "may-end").touch()
    assert host.make("trigger-update")[0] == 0
    assert host.calls()[-1] == "start watchtower"


def test_server_that_an_update_has_lost_is_told(host: Host) -> None:
    for name in ("may-end", "gone"):
        (host.folder / name).touch()
    code, said = host.make("trigger-update")
    assert code == 2
    assert "Not healthy with the newest image: pkgserver1 (missing) pkgserver2 (missing)." in said


def test_nobody_else_changes_anything_during_an_update(host: Host) -> None:
    with host.begin("trigger-update") as making:
        eventually(lambda: looks(host))
        host.forget()
        for target in CHANGES:
            code, said = host.make(target)
            assert (code, BUSY in said) == (2, True), target
        assert host.calls() == []
        (host.folder / "may-end").touch()
        making.communicate(timeout=20)
    assert making.returncode == 0
    assert host.make("stop-update")[0] == 0


def test_what_updates_is_gone_before_anything_is_stopped_or_replaced(host: Host) -> None:
    held = "rm --stop --force watchtower watchtower-proxy"
    assert host.make("down")[0] == 0
    assert host.calls() == [held, "--profile * down --remove-orphans"]
    host.forget()
    assert host.make("up")[0] == 0
    first = next(number for number, call in enumerate(host.calls()) if call.startswith("up "))
    assert held in host.calls()[:first]


def test_container_for_one_task_is_neither_healed_nor_updated(host: Host) -> None:
    command = [str(host.folder / "compose/run"), "run", "--rm", "pkgserver1", "verify"]
    variables = {"PATH": str(host.folder / "bin"), "FOLDER": str(host.folder)}
    subprocess.run(command, cwd=host.folder, env=variables, check=True)
    labels = "--label pkgserver.heal=false --label com.centurylinklabs.watchtower.enable=false"
    assert host.calls() == [f"run {labels} --rm pkgserver1 verify"]


@pytest.mark.parametrize("name", ["server.env.new", "grafana-password"])
def test_link_in_place_of_a_settings_file_leads_nowhere(host: Host, name: str) -> None:
    other = host.folder / "other"
    other.write_text("theirs")
    link = host.folder / "state/settings" / name
    link.unlink(missing_ok=True)
    link.symlink_to(other)
    (host.folder / ".env").write_text(f"{SETTINGS}PKGSERVER_LOG_LEVEL=debug\n")
    assert host.make("up")[0] == 0
    assert other.read_text() == "theirs"
    settings = host.folder / "state/settings"
    assert (settings / "server.env").read_text() == "PKGSERVER_LOG_LEVEL='debug'\n"
    assert [path.name for path in sorted(settings.iterdir())] == ["grafana-password", "server.env"]


def test_wrong_settings_are_not_kept(host: Host) -> None:
    (host.folder / ".env").write_text(f"{SETTINGS}PKGSERVER_LOG_LEVEL=loud\n")
    (host.folder / "settings-are-wrong").touch()
    assert host.make("up")[0] == 2
    settings = host.folder / "state/settings"
    assert [path.name for path in sorted(settings.iterdir())] == ["grafana-password", "server.env"]
    assert (settings / "server.env").read_text() == ""

"""A Docker engine of the tests' own, and what runs in it; `engine`, the script beside this file, says how."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ENGINE = Path(__file__).parent / "engine"
#: The image of the server, as the tests call it.
IMAGE = "pkgserver-trio:test"


class CommandError(Exception):
    """A command failed; the text has its output."""


@dataclass(frozen=True)
class Engine:
    """An engine in `folder`. Published ports are at `address`; containers reach this machine at `host_address`.

    `subnet` is free for a network of the tests.
    """

    folder: Path
    address: str
    host_address: str
    subnet: str
    variables: Mapping[str, str]

    def run(
        self,
        *command: str | Path,
        check: bool = True,
        cwd: Path | None = None,
        stdin: str = "",
        path: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command that may call docker, found on `path`. Raises CommandError when it fails and is checked."""
        environment = {**os.environ, **self.variables, "PATH": path or os.environ["PATH"]}
        done = subprocess.run(
            command, cwd=cwd, env=environment, input=stdin, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise CommandError(f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def docker(self, *arguments: str, check: bool = True) -> str:
        """Return what `docker` prints, both streams when it may fail."""
        done = self.run("docker", *arguments, check=check)
        return done.stdout if check else done.stdout + done.stderr

    def load(self, stand_in: str) -> None:
        """Have an image of `tests/stand-ins/`."""
        self.run(ENGINE, "load", self.folder, stand_in)

    def wait_for_log(self, container: str, wanted: str, *, patience_seconds: float) -> str:
        """Return what a container has written up to a line that has `wanted` in it."""
        command = ("docker", "logs", "--follow", container)
        pipe, merged = subprocess.PIPE, subprocess.STDOUT
        written = ""
        with subprocess.Popen(
            command, env={**os.environ, **self.variables}, stdout=pipe, stderr=merged, text=True
        ) as logs:
            timer = threading.Timer(patience_seconds, logs.terminate)
            timer.start()
            for line in logs.stdout or ():
                written += line
                if wanted in line:
                    break
            timer.cancel()
            logs.terminate()
        assert wanted in written, f"{container} did not write {wanted!r} but: {written}"
        return written

    def cut_power(self) -> None:
        """End it and all containers at once, and start it again: what is to run then is up to it."""
        self.run(ENGINE, "kill", self.folder)
        subprocess.run([ENGINE, "resume", self.folder], stdout=subprocess.DEVNULL, check=True)

    def inspect(self, container: str) -> Any:  # noqa: ANN401 # JSON
        """Return what the engine knows of a container."""
        return json.loads(self.docker("inspect", container))[0]

    @contextmanager
    def container(self, *arguments: str) -> Iterator[str]:
        """Run a container with these arguments of `docker run`; yield its name."""
        name = self.docker("run", "--detach", *arguments).strip()
        try:
            yield name
        finally:
            self.docker("rm", "--force", "--volumes", name)


@contextmanager
def running_engine() -> Iterator[Engine]:
    """Start an engine and stop it in the end. Raises CommandError."""
    folder = Path(tempfile.mkdtemp(prefix="engine-"))  # sockets have short names only
    try:
        done = subprocess.run([ENGINE, "start", folder], capture_output=True, text=True, check=False)
        if done.returncode:
            raise CommandError(done.stderr.strip())
        words = dict(line.split("=", 1) for line in done.stdout.splitlines())
        variables = {name: words[name] for name in ("DOCKER_HOST", "DOCKER_CONFIG")}
        yield Engine(folder, words["ENGINE_ADDRESS"], words["HOST_ADDRESS"], words["ENGINE_SUBNET"], variables)
    finally:
        subprocess.run([ENGINE, "stop", folder], check=True)
        shutil.rmtree(folder, ignore_errors=True)

"""The deployment as an operator has it: a folder with a Makefile, `compose/` and a `.env`."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from tests.acceptance.target import eventually
from tests.deployment.containers import IMAGE

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from tests.deployment.containers import Engine
    from tests.integration.storage import ScriptedStorage

ROOT = Path(__file__).parents[2]
FQDN = "pkg.example.org"
MIRROR_FQDN = "mirror.example.org"
BUCKET = "a.bucket"
PASSWORD = "correct horse"
#: With what a shell, compose and a `.env` each take for theirs.
GRAFANA_PASSWORD = 'open "$1" sesame'
SERVERS = ("pkgserver1", "pkgserver2")
#: All that `make` starts by itself.
SERVICES = (*SERVERS, "frontend", "autoheal", "autoheal-proxy")
#: What every test's `.env` has: no origin to ask, no image to look for, and no patience.
QUICK = {
    "PKGSERVER_ORIGIN_CHECK": "off",
    "PKGSERVER_KEEP_FREE": "0",
    "S3_MIRROR_MIN_FREE": "0",
    "UPDATE_PERIOD": "0.2",
    "IMAGE_POLL_SECONDS": "0",
}
#: All that a host needs beside make, docker and a shell: what every one has.
PROGRAMS = (
    *("make", "docker", "sh", "bash"),
    *(
        "awk",
        "cat",
        "chmod",
        "chown",
        "cut",
        "dirname",
        "env",
        "find",
        "flock",
        "getconf",
        "git",
        "grep",
        "head",
        "id",
        "mkdir",
        "mv",
        "rm",
    ),
    *("rmdir", "sed", "stat", "tr"),
)


def unpack() -> Path:
    """Return a new folder with what `make` needs to bring the deployment up."""
    folder = Path(tempfile.mkdtemp(prefix="deployment-"))
    for name in ("Makefile", ".env.example"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "compose", folder / "compose")
    (folder / "bin").mkdir()
    for program in PROGRAMS:
        found = shutil.which(program)
        assert found is not None, program
        (folder / "bin" / program).symlink_to(found)
    return folder


@dataclass(frozen=True)
class Stack:
    """A deployment in `folder`; `make` runs on a host that has no Python."""

    engine: Engine
    folder: Path

    @property
    def url(self) -> str:
        """Where it serves plain HTTP."""
        return f"http://{self.engine.address}:8000"

    def write_env(self, **values: str) -> None:
        """Write a `.env` with `values`, and with what the tests need besides."""
        needed = {"PKGSERVER_IMAGE": IMAGE, "INSIDE_SUBNET": self.engine.subnet, **QUICK}
        lines = (f"{name}={value}\n" for name, value in (needed | values).items())
        (self.folder / ".env").write_text("".join(lines))

    def make(self, *targets: str, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run make."""
        programs = self.folder / "bin"
        return self.engine.run(
            programs / "make", *targets, check=check, cwd=self.folder, stdin=stdin, path=str(programs)
        )

    def compose(self, *arguments: str, check: bool = True) -> str:
        """Return what `docker compose` prints."""
        done = self.engine.run(self.folder / "compose/run", *arguments, check=check, cwd=self.folder)
        return done.stdout + done.stderr

    def server_urls(self) -> tuple[str, ...]:
        """Return where the servers themselves are."""
        return tuple(f"http://{address}:8000" for address in self.addresses("upstream"))

    def addresses(self, network: str) -> list[str]:
        """Return the addresses of the servers on a network of compose.yaml."""
        found = (self.engine.inspect(f"pkgserver-{server}-1")["NetworkSettings"]["Networks"] for server in SERVERS)
        return [networks[f"pkgserver_{network}"]["IPAddress"] for networks in found]

    def remove(self) -> None:
        """End its containers, and remove everything."""
        containers = self.engine.docker(
            "ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project"
        ).split()
        if containers:
            self.engine.docker("rm", "--force", "--volumes", *containers)
        self.engine.docker("network", "prune", "--force")
        self.engine.docker("volume", "prune", "--force")
        shutil.rmtree(self.folder)


@dataclass
class Shared:
    """A deployment without TLS that many tests use, before a storage server that offers the sample.

    Another one needs the same ports: it stands aside for that, and comes back.
    """

    stack: Stack
    storage: ScriptedStorage
    #: Where the origin of `BUCKET` is to be, if there is one.
    origin: tuple[str, int]
    is_up: bool = False

    def bring_up(self) -> None:
        """Have it up, and ready."""
        if not self.is_up:
            self.stack.make()
            self.is_up = True
            ready = f"{self.stack.url}/readyz"
            eventually(lambda: httpx.get(ready, trust_env=False).json()["status"] == "ok")

    def stand_aside(self) -> None:
        """Leave the ports to another one."""
        if self.is_up:
            self.stack.make("down")
            self.is_up = False


@contextmanager
def unpacked_stack(engine: Engine) -> Iterator[Stack]:
    """Give a deployment that is not started, without a `.env`; in the end it is taken down."""
    stack = Stack(engine, unpack())
    try:
        yield stack
    finally:
        stack.remove()

"""The image by itself: for any user, with nothing that it could write to, and small where it changes."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.deployment.stack import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.deployment.containers import Engine

pytestmark = pytest.mark.integration

#: As compose.yaml runs it, but as a user whom nobody knows.
HARDENED = (
    "--read-only",
    "--tmpfs=/tmp",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges:true",
    "--user=4242:4343",
)
HEALTH = ("python3", "/app/pkgserver.pyz", "healthcheck")


def is_healthy(engine: Engine, name: str) -> bool:
    return engine.run("docker", "exec", name, *HEALTH, check=False).returncode == 0


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def test_it_serves_in_three_seconds_as_any_user_and_ends_in_order(
    engine: Engine, image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    with engine.container(*HARDENED, "--publish=9003:8000", image) as name:
        while not answers(f"http://{engine.address}:9003/healthz"):
            assert time.monotonic() - began < 3, engine.docker("logs", name, check=False)
        seconds = time.monotonic() - began
        assert is_healthy(engine, name)
        engine.docker("stop", name)
        assert engine.inspect(name)["State"]["ExitCode"] == 0
    megabytes = engine.inspect(image)["Size"] / 1e6
    with capsys.disabled():
        print(f"\nimage: {megabytes:.0f} MB, serving after {seconds:.1f} s")  # noqa: T201 # who runs the tests wants to know


def test_nothing_is_writable_but_the_store_and_tmp(engine: Engine, image: str) -> None:
    search = ("find", "/", "-xdev", "-writable", "-not", "-type", "l")
    with engine.container(*HARDENED, "--entrypoint=sleep", image, "60") as name:
        found = engine.run("docker", "exec", name, *search, check=False).stdout.splitlines()
        mounts = engine.docker("exec", name, "cat", "/proc/self/mounts").splitlines()
    assert sorted(found) == ["/storage", "/tmp"]  # noqa: S108 # the container's
    own = {fields[1] for fields in map(str.split, mounts) if "rw" in fields[3].split(",")}
    own = {mount for mount in own if not mount.startswith(("/dev", "/etc/host", "/etc/resolv.conf", "/proc", "/sys"))}
    assert own == {"/storage", "/tmp"}  # noqa: S108 # the container's


def test_code_is_nobodys_to_change_even_where_the_root_is_writable(engine: Engine, image: str) -> None:
    with engine.container("--entrypoint=sleep", image, "60") as name:
        found = engine.docker("exec", name, "find", "/app", "/usr/local", "/usr/lib", "-writable", "-not", "-type", "l")
        assert found == ""
        assert engine.docker("exec", name, "ls", "/app").split() == ["pkgserver.pyz", "unpacked"]
        assert engine.docker("exec", name, "id", "-u").strip() not in {"0", ""}


def test_compiled_code_is_there_for_its_interpreter_only(engine: Engine, image: str) -> None:
    command = ("run", "--rm", "--entrypoint=find", image, "/app/unpacked", "-name", "*.so")
    names = engine.docker(*command).splitlines()
    assert names
    assert {name.rpartition(".cpython-")[2] for name in names} in (
        {"313-x86_64-linux-gnu.so"},
        {"313-aarch64-linux-gnu.so"},
    )
    with engine.container(image) as name:
        while "serving" not in (log := engine.docker("logs", name, check=False)):
            pass
    assert "inflate=isal" in log
    assert "crc64nvme" in log


def test_it_says_what_it_is_and_how_it_is_to_be_run(engine: Engine, image: str) -> None:
    config = engine.inspect(image)["Config"]
    assert config["Labels"]["org.opencontainers.image.title"] == "pkgserver-trio"
    assert config["Labels"]["org.opencontainers.image.licenses"] == "MIT"
    assert {"org.opencontainers.image.version", "org.opencontainers.image.revision"} < set(config["Labels"])
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", *HEALTH]
    assert config["User"] == "65532:65532"
    assert config["Volumes"] == {"/storage": {}}


def test_server_that_does_not_answer_is_unhealthy(engine: Engine, image: str) -> None:
    with engine.container("--entrypoint=sleep", image, "60") as name:
        assert not is_healthy(engine, name)


def test_change_of_the_code_makes_one_small_layer_anew(engine: Engine, image: str, tmp_path: Path) -> None:
    for name in ("docker", "src", ".ci"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".dockerignore", "requirements.lock", "requirements-build.lock", "pyproject.toml", "shiv.spec"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    with (tmp_path / "src/pkgserver_trio/__init__.py").open("a") as file:
        file.write("# changed\n")
    engine.run("docker", "build", "--quiet", "--file=docker/Dockerfile", "--tag=changed", ".", cwd=tmp_path)
    before, after = (engine.inspect(name)["RootFS"]["Layers"] for name in (image, "changed"))
    assert before[:-1] == after[:-1]
    assert before[-1] != after[-1]
    last = int(engine.docker("history", "--human=false", "--format={{.Size}}", "changed").splitlines()[0])
    assert last < 40_000_000

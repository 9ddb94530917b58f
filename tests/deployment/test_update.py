"""A newer image in a registry takes the place of the older one, server by server, and nobody notices."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.acceptance.target import eventually
from tests.deployment.containers import ENGINE, IMAGE
from tests.deployment.load import loaded
from tests.deployment.stack import FQDN, SERVERS, unpacked_stack
from tests.integration.storage import open_storage

from pkgserver_trio.demo.sample import build_sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.deployment.containers import Engine
    from tests.deployment.stack import Shared, Stack
    from tests.integration.storage import ScriptedStorage

pytestmark = pytest.mark.integration

NAME = "127.0.0.1:5000/julia/pkgserver-trio:latest"
UPDATE_SECONDS = 120
#: What a server with a broken image is; autoheal starts it anew again and again.
ILL = {"unhealthy", "starting"}
#: After so many the engine waits some seconds until the next one.
RESTARTS = 6
#: How often an image may be looked for until it has taken over.
LOOKS = 5
CONTAINERS = [f"pkgserver-{server}-1" for server in SERVERS]
#: It starts, and never serves.
BROKEN = 'ENTRYPOINT ["sleep", "infinity"]'


@dataclass
class Registry:
    """The image `NAME` in a registry, of which the engine has what it pulled."""

    engine: Engine
    pushed: list[str] = field(default_factory=list)

    def push(self, change: str = "") -> str:
        """Have another image there; return its identifier."""
        newer = f"newer:{len(self.pushed)}"
        recipe = f"FROM {IMAGE}\nLABEL number={len(self.pushed)}\n{change}\n"
        self.engine.run("docker", "build", "--quiet", "--tag", newer, "-", stdin=recipe)
        had = self.engine.docker("images", "--quiet", "--no-trunc", NAME).strip()
        self.engine.docker("tag", newer, NAME)
        self.engine.docker("push", "--quiet", NAME)
        if had:
            self.engine.docker("tag", had, NAME)  # so that it has to be pulled
        self.pushed.append(str(self.engine.inspect(newer)["Id"]))
        return self.pushed[-1]


@dataclass(frozen=True)
class Deployment:
    """One whose image is in a registry, which is looked at now and then."""

    stack: Stack
    storage: ScriptedStorage
    registry: Registry

    def states(self) -> list[tuple[str, str]]:
        """Return the image and the health of each server that there is."""
        found = []
        for name in CONTAINERS:
            if self.engine.docker("ps", "--all", "--quiet", "--filter", f"name={name}"):
                container = self.engine.inspect(name)
                found.append((container["Image"], container["State"]["Health"]["Status"]))
        return found

    @property
    def engine(self) -> Engine:
        return self.stack.engine

    def await_update(self, image: str) -> None:
        """Return once both servers are well with that image."""
        deadline = time.monotonic() + UPDATE_SECONDS
        while self.states() != [(image, "healthy")] * len(SERVERS):
            assert time.monotonic() < deadline, self.stack.compose("logs", "watchtower", "watchtower-proxy")

    def heal(self) -> None:
        """Have a good image take over; one that is being started anew just then is replaced at the next look."""
        better = self.registry.push()
        looks = (self.stack.make("trigger-update", check=False).returncode for _ in range(LOOKS))
        assert 0 in looks
        assert self.states() == [(better, "healthy")] * len(SERVERS)


@pytest.fixture(scope="module")
def deployment(engine: Engine, shared: Shared) -> Iterator[Deployment]:
    shared.stand_aside()
    engine.load("watchtower")
    engine.run(ENGINE, "registry", engine.folder)
    registry = Registry(engine)
    registry.push()
    with open_storage(dict(build_sample().files), engine.host_address) as storage, unpacked_stack(engine) as stack:
        names = {"PKG_SERVER_FQDN": FQDN, "PKGSERVER_IMAGE": NAME, "IMAGE_POLL_SECONDS": "10"}
        stack.write_env(**names, DISABLE_TLS="1", STORAGE_SERVERS=storage.url)
        stack.make()
        eventually(lambda: httpx.get(f"{stack.url}/readyz", trust_env=False).json()["status"] == "ok")
        yield Deployment(stack, storage, registry)


def free_lower_addresses(stack: Stack) -> None:
    """Have each server at an address above one that is free, so that its successor gets another one."""
    with ExitStack() as placeholders:
        for name in CONTAINERS:
            stack.engine.docker("stop", name)
            placeholder = stack.engine.container("--network=pkgserver_inside", "--entrypoint=sleep", IMAGE, "60")
            placeholders.enter_context(placeholder)
            stack.engine.docker("start", name)
    for name in CONTAINERS:
        eventually(lambda name=name: stack.engine.inspect(name)["State"]["Health"]["Status"] == "healthy")  # type: ignore[misc]


def test_stopped_updates_stay_so_until_make_up(deployment: Deployment) -> None:
    def running() -> str:
        return deployment.stack.compose("ps", "--quiet", "watchtower")

    assert running() != ""
    deployment.stack.make("stop-update")
    assert running() == ""
    deployment.stack.make()
    assert running() != ""


def test_newer_image_is_found_and_takes_over_and_no_request_fails(deployment: Deployment) -> None:
    stack = deployment.stack
    free_lower_addresses(stack)
    before = stack.addresses("inside")
    with loaded(stack.url, deployment.storage) as load:
        load.await_count(100)
        deployment.await_update(deployment.registry.push())
        load.await_count(2000)
    assert [one for one in load.asked if one.fault] == []
    assert min(load.counts().values()) >= 900
    after = stack.addresses("inside")
    assert all(address not in before for address in after), (before, after)
    print(f"{dict(load.counts())} asked, none failed; addresses {before} to {after}")  # noqa: T201


def test_old_image_is_gone_and_nothing_else_is(deployment: Deployment) -> None:
    def images() -> set[str]:
        return set(deployment.engine.docker("images", "--quiet", "--no-trunc").split())

    first, second = deployment.registry.pushed[:2]
    eventually(lambda: first not in images())
    assert {second, str(deployment.engine.inspect(IMAGE)["Id"])} <= images()


def test_broken_image_stops_the_update_and_the_old_one_serves_until_a_good_one_comes(deployment: Deployment) -> None:
    stack, good = deployment.stack, deployment.registry.pushed[-1]
    with loaded(stack.url, deployment.storage) as load:
        broken = deployment.registry.push(BROKEN)
        done = stack.make("trigger-update", check=False)
        told = done.stdout + done.stderr
        assert done.returncode == 2
        assert "Not healthy with the newest image:" in told
        assert "Where one is not, the other is not replaced." in told
        assert "returned 75" in told
        states = dict(deployment.states())
        assert set(states) == {broken, good}
        assert states[good] == "healthy"
        assert states[broken] in ILL
        assert any(f"({ill})" in told for ill in ILL)
        deployment.heal()
        load.await_count(len(load.asked) + 100)
    assert [one for one in load.asked if one.fault] == []
    print(f"{dict(load.counts())} asked, none failed")  # noqa: T201


def test_image_that_ends_at_once_is_replaced_by_a_good_one_too(deployment: Deployment) -> None:
    stack = deployment.stack
    deployment.registry.push('ENTRYPOINT ["false"]')
    stack.make("stop-update")
    stack.engine.docker("pull", "--quiet", NAME)
    stack.compose("up", "--detach", "--no-deps", "pkgserver1")
    eventually(lambda: deployment.engine.inspect(CONTAINERS[0])["RestartCount"] >= RESTARTS)
    deployment.heal()


@pytest.mark.parametrize(
    ("name", "told"),
    [("localhost/pkgserver-trio", "is made here: make build, then make up"), (f"x@sha256:{'0' * 64}", "for ever")],
)
def test_image_that_cannot_become_newer_is_told(deployment: Deployment, name: str, told: str) -> None:
    deployment.stack.write_env(PKG_SERVER_FQDN=FQDN, DISABLE_TLS="1", PKGSERVER_IMAGE=name)
    done = deployment.stack.make("trigger-update", check=False)
    assert done.returncode == 2
    assert told in done.stderr


@pytest.mark.parametrize(
    ("values", "is_there"),
    [
        ({"PKGSERVER_IMAGE": "ghcr.io/example/pkgserver-trio"}, True),
        ({"PKGSERVER_IMAGE": "localhost:5000/pkgserver-trio"}, True),
        ({"PKGSERVER_IMAGE": "ghcr.io/example/pkgserver-trio", "COMPOSE_PROFILES": "monitoring"}, True),
        ({"PKGSERVER_IMAGE": "ghcr.io/example/pkgserver-trio", "IMAGE_POLL_SECONDS": "0"}, False),
        ({"PKGSERVER_IMAGE": f"ghcr.io/example/pkgserver-trio@sha256:{'0' * 64}"}, False),
        ({"PKGSERVER_IMAGE": "localhost/pkgserver-trio"}, False),
        ({}, False),
    ],
)
def test_watchtower_is_there_for_an_image_that_can_become_newer(
    deployment: Deployment, values: dict[str, str], *, is_there: bool
) -> None:
    lines = {"PKG_SERVER_REGION": "x", "DISABLE_TLS": "1", "GRAFANA_ADMIN_PASSWORD": "x", **values}
    text = "".join(f"{name}={value}\n" for name, value in lines.items())
    (deployment.stack.folder / ".env").write_text(text, "utf-8")
    services = deployment.stack.compose("config", "--services").split()
    assert ("watchtower" in services, "watchtower-proxy" in services) == (is_there, is_there)
    assert ("grafana" in services) == ("COMPOSE_PROFILES" in values)
    assert {"autoheal", "autoheal-proxy"} <= set(services)

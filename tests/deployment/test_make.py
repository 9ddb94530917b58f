"""What `make` has started, and what its other targets do with it."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.acceptance.target import eventually
from tests.deployment.containers import IMAGE
from tests.deployment.front_end.conftest import BORN
from tests.deployment.front_end.test_same_answers import CONDITIONAL_RANGES, CONDITIONS, RANGES, all_answers
from tests.deployment.stack import FQDN, ROOT, SERVERS, SERVICES

from pkgserver_trio.demo.sample import build_sample

if TYPE_CHECKING:
    from pathlib import Path

    from tests.deployment.stack import Stack

pytestmark = pytest.mark.integration

#: Whom the containers run as when root starts them.
NOBODY = 65532
SAMPLE = build_sample()
ARTIFACT = f"/artifact/{SAMPLE.artifact.tree_hash}"


def get(stack: Stack, path: str, **headers: str) -> httpx.Response:
    return httpx.get(f"{stack.url}{path}", headers=headers, trust_env=False, timeout=20)


def test_all_are_healthy_and_nobody_special(running: Stack) -> None:
    names = [f"pkgserver-{service}-1" for service in SERVICES]
    eventually(lambda: {running.engine.inspect(name)["State"]["Health"]["Status"] for name in names} == {"healthy"})
    for name in names:
        container = running.engine.inspect(name)
        assert container["Config"]["User"] == f"{NOBODY}:{NOBODY}"
        host = container["HostConfig"]
        assert (host["ReadonlyRootfs"], host["CapDrop"], host["Privileged"]) == (True, ["ALL"], False)
        assert "no-new-privileges:true" in host["SecurityOpt"]
    owners = {path.stat().st_uid for path in (running.folder / "state").rglob("*")}
    assert owners == {NOBODY}


def test_servers_are_more_patient_stopped_than_they_are(running: Stack) -> None:
    for server in SERVERS:
        assert running.engine.inspect(f"pkgserver-{server}-1")["Config"]["StopTimeout"] > 20


def test_only_the_front_end_can_be_reached_from_outside(running: Stack) -> None:
    published = {
        service: sorted(running.engine.inspect(f"pkgserver-{service}-1")["HostConfig"]["PortBindings"] or {})
        for service in SERVICES
    }
    assert published == {service: [] for service in SERVICES} | {"frontend": ["443/tcp", "80/tcp", "8000/tcp"]}
    inside = running.engine.inspect("pkgserver_inside")
    assert inside["Internal"] is True
    assert inside["IPAM"]["Config"][0]["Subnet"] == running.engine.subnet


def test_front_end_is_healthy_while_both_servers_hang(running: Stack) -> None:
    name = "pkgserver-frontend-1"
    _, *command = running.engine.inspect(name)["Config"]["Healthcheck"]["Test"]
    servers = [running.engine.inspect(f"pkgserver-{server}-1")["State"]["Pid"] for server in SERVERS]
    for server in servers:
        os.kill(server, signal.SIGSTOP)
    try:
        running.engine.docker("exec", name, *command)
    finally:
        for server in servers:
            os.kill(server, signal.SIGCONT)


def test_nobody_outside_is_asked_for_the_name_of_a_server(running: Stack) -> None:
    """Docker passes names without a dot on, unless a container has said how many dots it wants in those."""
    assert running.engine.inspect("pkgserver-frontend-1")["HostConfig"]["DnsOptions"] == ["ndots:1"]


def test_both_servers_believe_the_front_end_and_follow_a_hit_log_each(running: Stack) -> None:
    for number, server in enumerate(SERVERS, start=1):
        done = running.compose("exec", "-T", server, "python3", "/app/pkgserver.pyz", "check-config")
        assert f"PKGSERVER_TRUSTED_PROXIES={running.engine.subnet}  (environment)" in done
        assert "PKGSERVER_HIT_LOGS=/hits/hits.log  (environment)" in done
        assert f"JULIA_PKG_SERVER_FQDN={FQDN}  (environment)" in done
        assert "Warning" not in done
        mounts = running.engine.inspect(f"pkgserver-{server}-1")["Mounts"]
        sources = {mount["Destination"]: mount["Source"] for mount in mounts}
        assert sources["/hits"].endswith(f"/logs/hits/{number}")
        assert sources["/storage"].endswith(f"/store{number}")


def test_second_make_changes_nothing(running: Stack) -> None:
    before = running.engine.docker("ps", "--quiet", "--no-trunc")
    running.make()
    assert running.engine.docker("ps", "--quiet", "--no-trunc") == before


def test_status_config_and_reload_work(running: Stack) -> None:
    assert running.make("status").stdout.count("(healthy)") == len(SERVICES)
    assert FQDN in running.make("config").stdout
    running.make("nginx-reload")


def test_nobody_says_anything_to_the_environment_but_env(running: Stack) -> None:
    variables = {**running.engine.variables, "PATH": os.environ["PATH"], "PKG_SERVER_FQDN": "other.example.invalid"}
    variables["COMPOSE_PROJECT_NAME"] = "other"
    command = (str(running.folder / "compose/run"), "config")
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    assert "other" not in done.stdout


def test_hits_are_served_with_both_servers_stopped_and_counted_when_they_are_back(running: Stack) -> None:
    def stats() -> list[int]:
        urls = running.server_urls()
        answers = (httpx.get(f"{url}/meta/stats", trust_env=False).json() for url in urls)
        return [int(answer["total_hits"]) for answer in answers]

    eventually(lambda: get(running, ARTIFACT).headers.get("X-Cache-Miss") is None)
    eventually(lambda: sum(stats()) > 0)
    before = sum(stats())
    running.compose("stop", *SERVERS)
    try:
        for _ in range(5):
            answer = get(running, ARTIFACT)
            assert (answer.status_code, answer.content) == (200, SAMPLE.files[ARTIFACT])
    finally:
        running.make()
    eventually(lambda: sum(stats()) >= 5)
    assert before >= 1


def test_server_that_comes_back_at_another_address_is_found(running: Stack) -> None:
    before = running.addresses("inside")
    running.compose("stop", *SERVERS)
    with ExitStack() as squatters:
        for address in before:
            options = ("--network=pkgserver_inside", f"--ip={address}", "--entrypoint=sleep")
            squatters.enter_context(running.engine.container(*options, IMAGE, "600"))
        running.make()
        assert not set(before) & set(running.addresses("inside"))
        eventually(lambda: get(running, "/readyz").status_code == 200)
        statuses = {get(running, f"/artifact/{number:040x}").status_code for number in range(20)}  # of both servers
        assert statuses == {404}


async def test_hit_is_the_same_from_nginx_and_from_the_server(running: Stack) -> None:
    eventually(lambda: get(running, ARTIFACT).headers.get("X-Cache-Miss") is None)
    stores = [running.folder / f"state/store{number}/cache{ARTIFACT}" for number in (1, 2)]
    number, file = next((number, file) for number, file in enumerate(stores) if file.exists())
    os.utime(file, (BORN, BORN))
    bare_url = running.server_urls()[number]
    eventually(lambda: httpx.get(f"{bare_url}{ARTIFACT}", trust_env=False).headers.get("X-Cache-Miss") is None)
    cases = [*CONDITIONS, *RANGES, *CONDITIONAL_RANGES]
    async with (
        httpx.AsyncClient(base_url=running.url, trust_env=False) as front,
        httpx.AsyncClient(base_url=bare_url, trust_env=False) as bare,
    ):
        for method in ("GET", "HEAD"):
            from_nginx = await all_answers(front, method, cases)
            assert from_nginx == await all_answers(bare, method, cases)
            assert {answer.status for answer in from_nginx.values()} == {200, 206, 304, 416}


def test_change_of_a_setting_makes_the_servers_anew_and_nothing_else(running: Stack) -> None:
    before = {service: running.engine.inspect(f"pkgserver-{service}-1")["Id"] for service in SERVICES}
    with (running.folder / ".env").open("a") as file:
        file.write("PKGSERVER_READ_STALL_SECONDS=59\n")
    running.make()
    after = {service: running.engine.inspect(f"pkgserver-{service}-1")["Id"] for service in SERVICES}
    assert {service for service in SERVICES if before[service] != after[service]} == set(SERVERS)


def test_restart_makes_all_anew_and_answers_meanwhile(running: Stack) -> None:
    before = set(running.engine.docker("ps", "--quiet").split())
    statuses: set[int] = set()
    over = threading.Event()

    def keep_asking() -> None:
        for number in itertools.takewhile(lambda _: not over.is_set(), itertools.count(1000)):
            with suppress(httpx.TransportError):  # nginx itself is made anew, too
                statuses.add(get(running, f"/artifact/{number:040x}").status_code)

    with ThreadPoolExecutor() as pool:
        asking = pool.submit(keep_asking)
        try:
            running.make("restart")
        finally:
            over.set()
        asking.result()
    assert statuses == {404}
    after = set(running.engine.docker("ps", "--quiet").split())
    assert (len(after), before & after) == (len(SERVICES), set())


def test_prometheus_has_our_configuration_and_asks_both_servers(running: Stack) -> None:
    running.engine.load("prometheus")
    running.compose("--profile", "monitoring", "up", "--detach", "--wait", "prometheus")

    def ask(*arguments: str) -> str:
        return running.compose("exec", "-T", "prometheus", "promtool", *arguments, check=False)

    assert "SUCCESS: 1 rule files found" in ask("check", "config", "/etc/prometheus/prometheus.yml")
    eventually(lambda: ask("query", "instant", "http://localhost:9090", "up").count("=> 1 @") == 2)


def test_destroy_asks_first(running: Stack) -> None:
    refused = running.make("destroy", check=False, stdin="y\n")
    assert refused.returncode == 2
    assert get(running, "/healthz").status_code == 200
    assert (running.folder / "state/store1/cache").is_dir()


def test_what_an_earlier_deployment_left_is_named_with_what_removes_it(tmp_path: Path) -> None:
    names = ("cron.d/pkgserver", "cron.hourly/pkgserver", "logrotate.d/pkgserver")
    left = [tmp_path / "etc" / name for name in names]
    for file in left:
        file.parent.mkdir(parents=True)
        file.touch()
    done = subprocess.run([ROOT / "compose/name-leftovers", tmp_path], capture_output=True, text=True, check=True)
    assert [line.rpartition(": ")[2] for line in done.stderr.splitlines()] == [f"sudo rm {file}" for file in left]
    shutil.rmtree(tmp_path / "etc")
    assert subprocess.run([ROOT / "compose/name-leftovers", tmp_path], capture_output=True, check=True).stderr == b""

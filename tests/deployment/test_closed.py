"""Nobody in a container can do more than its work, nobody outside gets in but by the door, and no secret lies about."""

from __future__ import annotations

import hashlib
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from tests.deployment.stack import GRAFANA_PASSWORD, PASSWORD, SERVERS, SERVICES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.deployment.stack import Shared, Stack

pytestmark = pytest.mark.integration

#: What each may write to; the rest of each container cannot be written, whoever one is there.
WRITABLE = {
    "pkgserver1": {"/tmp", "/storage", "/logs", "/hits"},  # noqa: S108 # the containers'
    "pkgserver2": {"/tmp", "/storage", "/logs", "/hits"},  # noqa: S108
    "frontend": {
        *("/tmp", "/hits", "/logs", "/etc/letsencrypt", "/etc/nginx/conf.d", "/var/cache/mirror"),  # noqa: S108
        *("/var/www/letsencrypt", "/var/lib/letsencrypt", "/var/log/letsencrypt"),
    },
    "autoheal": {"/run/engine"},
    "autoheal-proxy": {"/tmp", "/run/engine"},  # noqa: S108
}
#: What the engine itself puts into every container, which no user of one may write.
ENGINES_OWN = ("/dev", "/proc", "/sys", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf")
LOOK = """
for status in /proc/[0-9]*/status; do
    while read -r name value _; do
        case $name in
        Uid: | CapInh: | CapPrm: | CapEff: | CapBnd: | CapAmb: | NoNewPrivs: | Seccomp:) echo "$name $value" ;;
        esac
    done <"$status"
done 2>/dev/null | sort -u
"""


def inside(stack: Stack, service: str, script: str) -> str:
    """Return what a shell in the running container of a service prints."""
    return stack.engine.docker("exec", f"pkgserver-{service}-1", "sh", "-c", script)


@pytest.mark.parametrize("service", SERVICES)
def test_no_process_has_a_capability_or_can_get_one(running: Stack, service: str) -> None:
    seen = [line.split(": ") for line in inside(running, service, LOOK).splitlines()]
    facts = {name: {value for other, value in seen if other == name} for name, _ in seen}
    none = {f"{0:016x}"}
    assert facts.pop("Uid") == {"65532"}
    assert facts == {
        "CapInh": none,
        "CapPrm": none,
        "CapEff": none,
        "CapBnd": none,
        "CapAmb": none,
        "NoNewPrivs": {"1"},
        "Seccomp": {"2"},  # what the engine forbids is filtered
    }


@pytest.mark.parametrize("service", SERVICES)
def test_nothing_can_be_written_but_volumes(running: Stack, service: str) -> None:
    mounts = [line.split() for line in inside(running, service, "cat /proc/self/mounts").splitlines()]
    writable = {place for _, place, _, options, *_ in mounts if "rw" in options.split(",")}
    assert {place for place in writable if not place.startswith(ENGINES_OWN)} == WRITABLE[service]
    found = inside(running, service, "find / -xdev -writable -not -type l 2>/dev/null || true").split()
    assert set(found) - {"/run/docker.sock"} <= WRITABLE[service]  # who has that is another test
    for place in ("/x", "/etc/x", "/usr/x", "/root/x", "/app/x", "/var/x"):
        assert inside(running, service, f"(echo >{place}) 2>/dev/null || echo refused") == "refused\n"


def test_everything_is_bounded(running: Stack) -> None:
    for service in SERVICES:
        container = running.engine.inspect(f"pkgserver-{service}-1")
        host = container["HostConfig"]
        assert 0 < host["Memory"] <= 2 << 30, service
        assert host["NanoCpus"] > 0, service
        assert 0 < host["PidsLimit"] <= 500, service
        assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-file": "5", "max-size": "10m"}}
        assert host["RestartPolicy"]["Name"] == "unless-stopped"
        assert host["ReadonlyRootfs"] is True
        assert (host["PidMode"], host["IpcMode"], host["UTSMode"], host["Devices"] or []) == ("", "private", "", [])
    for server in SERVERS:
        health = running.engine.inspect(f"pkgserver-{server}-1")["Config"]["Healthcheck"]
        assert (health["Interval"], health["Retries"]) == (5_000_000_000, 3)


def test_only_the_named_ports_are_open(running: Stack) -> None:
    """Those of the engine's address, from outside, of which nobody else has any."""

    def is_open(port: int) -> bool:
        with socket.socket() as probe:
            probe.settimeout(2)
            return probe.connect_ex((running.engine.address, port)) == 0

    ports = [*range(1, 10_001), 32768, 49152, 60999]
    with ThreadPoolExecutor(max_workers=64) as pool:
        opened = [port for port, is_so in zip(ports, pool.map(is_open, ports), strict=True) if is_so]
    assert opened == [80, 8000]  # this one has no TLS


def test_only_the_socket_proxy_sees_the_engine(running: Stack) -> None:
    holders = {
        service
        for service in SERVICES
        for mount in running.engine.inspect(f"pkgserver-{service}-1")["Mounts"]
        if mount["Source"].endswith("docker.sock")
    }
    assert holders == {"autoheal-proxy"}
    for service in ("autoheal", "autoheal-proxy"):
        assert list(running.engine.inspect(f"pkgserver-{service}-1")["NetworkSettings"]["Networks"]) == ["none"]


def test_servers_and_front_end_do_not_reach_what_is_not_theirs(running: Stack) -> None:
    networks = {
        service: {name.removeprefix("pkgserver_") for name in seen["NetworkSettings"]["Networks"]}
        for service in (*SERVERS, "frontend")
        for seen in [running.engine.inspect(f"pkgserver-{service}-1")]
    }
    assert networks == {
        "pkgserver1": {"inside", "upstream"},
        "pkgserver2": {"inside", "upstream"},
        "frontend": {"inside", "outside"},
    }


def texts_of(value: object) -> Iterator[str]:
    """Yield all texts of a JSON value, names among them."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from texts_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts_of(inner)
    else:
        yield str(value)


def known_to_the_engine(stack: Stack) -> Mapping[str, str]:
    """Return all that the engine tells of each container and of the image, and what each has written."""
    names = stack.engine.docker("ps", "--all", "--format={{.Names}}").split()
    told = {name: "\n".join(texts_of(stack.engine.inspect(name))) for name in names}
    told |= {f"log of {name}": stack.engine.docker("logs", name, check=False) for name in names}
    told["config"] = stack.compose("config")
    told["image"] = json.dumps(stack.engine.docker("history", "--no-trunc", "pkgserver-trio:test"))
    return told


def test_no_secret_is_told_by_the_engine(running: Stack, shared: Shared) -> None:
    digest = hashlib.sha256(PASSWORD.encode()).hexdigest()
    for where, text in known_to_the_engine(running).items():
        for secret in (digest, GRAFANA_PASSWORD, "sesame", shared.storage.url):
            assert secret not in text or (where.startswith("log of ") and secret == shared.storage.url), where
    said = running.compose("exec", "-T", "pkgserver1", "python3", "/app/pkgserver.pyz", "check-config")
    assert "JULIA_PKG_SERVER_ADMIN_TOKEN_SHA256=***  (./.env)" in said
    assert f"JULIA_PKG_SERVER_STORAGE_SERVERS={shared.storage.url}  (./.env)" in said


def test_settings_are_written_for_the_servers_alone_and_only_right_ones(running: Stack) -> None:
    written, env = running.folder / "state/settings", running.folder / ".env"
    assert {oct(path.stat().st_mode & 0o777) for path in (written, *written.iterdir())} == {"0o700", "0o600"}
    assert (written / "grafana-password").read_text() == GRAFANA_PASSWORD
    before, right = (written / "server.env").read_text(), env.read_text()
    env.write_text(f"{right}PKGSERVER_MAX_CACHE=much\n")
    assert "PKGSERVER_MAX_CACHE is 'much'" in running.make(check=False).stderr
    env.write_text(right)
    assert (written / "server.env").read_text() == before  # a server that starts anew gets what it had

"""`make` for the first time: what is wrong is named before anything starts, what is inherited is verified."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.deployment.stack import FQDN

from pkgserver_trio.demo.sample import build_sample

if TYPE_CHECKING:
    from tests.deployment.stack import Shared, Stack

pytestmark = pytest.mark.integration

#: Whom the containers run as when root starts them.
NOBODY = 65532
SAMPLE = build_sample()
ARTIFACT = f"/artifact/{SAMPLE.artifact.tree_hash}"


def test_without_an_env_file_it_helps_and_starts_nothing(stack: Stack) -> None:
    done = stack.make()
    assert "make up" in done.stdout
    assert "make destroy" in done.stdout
    assert stack.engine.docker("ps", "--all", "--quiet") == ""
    refused = stack.make("up", check=False)
    assert refused.returncode == 2
    assert "copy .env.example to .env" in refused.stderr


def test_wrong_env_file_is_told_whole_and_nothing_is_started(stack: Stack) -> None:
    stack.write_env(CERTBOT_EMAIL="nobody", METRICS_ALLOW="all")
    done = stack.make(check=False)
    assert done.returncode == 2
    for name in ("PKG_SERVER_REGION", "CERTBOT_EMAIL", "METRICS_ALLOW"):
        assert f".env: {name} is" in done.stderr
    assert stack.engine.docker("ps", "--all", "--quiet") == ""
    assert not (stack.folder / "state").exists()


def test_wrong_setting_of_the_server_is_told_and_nothing_is_started(stack: Stack) -> None:
    stack.write_env(PKG_SERVER_REGION="x", DISABLE_TLS="1", PKGSERVER_MAX_CACHE="much")
    done = stack.make(check=False)
    assert done.returncode == 2
    assert "PKGSERVER_MAX_CACHE is 'much', expected a size" in done.stderr
    assert stack.engine.docker("ps", "--all", "--quiet") == ""


def test_all_that_is_mounted_is_there(stack: Stack) -> None:
    stack.write_env(
        PKG_SERVER_REGION="x", DISABLE_TLS="1", COMPOSE_PROFILES="monitoring", GRAFANA_ADMIN_PASSWORD="'a $b'"
    )
    config = json.loads(stack.engine.run("compose/run", "config", "--format=json", cwd=stack.folder).stdout)
    assert "a $" not in json.dumps(config)
    mounts = [mount for service in config["services"].values() for mount in service["volumes"]]
    bound = [mount["source"] for mount in mounts if mount["type"] == "bind"]
    ours = [source for source in bound if not source.startswith(f"{stack.folder}/state")]
    assert len(ours) == 7
    assert [source for source in ours if not Path(source).exists()] == []


def test_inherited_cache_is_verified_before_nginx_gets_it(stack: Stack, shared: Shared) -> None:
    stack.write_env(PKG_SERVER_FQDN=FQDN, DISABLE_TLS="1", STORAGE_SERVERS=shared.storage.url)
    for number in (1, 2):
        folder = stack.folder / f"state/store{number}/cache/artifact"
        folder.mkdir(parents=True)
        (folder / ARTIFACT.rpartition("/")[2]).write_bytes(b"damaged")
    chown(stack.folder / "state", NOBODY)
    done = stack.make()
    assert done.stdout.count("is verified first") == 2
    assert done.stdout.count("wrong, moved to quarantine") == 2
    answer = httpx.get(f"{stack.url}{ARTIFACT}", trust_env=False)
    assert (answer.status_code, answer.content) == (200, SAMPLE.files[ARTIFACT])
    assert "is verified first" not in stack.make().stdout
    stack.make("down")
    assert stack.engine.docker("ps", "--quiet") == ""
    (stack.folder / "state/not-ours").touch()
    stack.make("destroy", stdin="yes\n")
    assert [path.name for path in (stack.folder / "state").iterdir()] == ["not-ours"]


def test_what_looks_at_settings_and_stores_is_no_server_to_heal_or_update(stack: Stack, shared: Shared) -> None:
    stack.write_env(PKG_SERVER_FQDN=FQDN, DISABLE_TLS="1", STORAGE_SERVERS=shared.storage.url)
    labels = ("pkgserver.heal", "com.centurylinklabs.watchtower.enable")
    attributes = " ".join(f'{{{{index .Actor.Attributes "{name}"}}}}' for name in ("name", *labels))
    began = time.time()
    stack.make()
    span = (f"--since={began:.3f}", f"--until={time.time():.3f}")
    lines = stack.engine.docker("events", *span, "--filter=event=create", f"--format={attributes}").splitlines()
    told = {name: tuple(values) for name, *values in (line.split() for line in lines if "pkgserver-pkgserver" in line)}
    servers = {name: told.pop(name) for name in ("pkgserver-pkgserver1-1", "pkgserver-pkgserver2-1")}
    assert set(servers.values()) == {("true", "true")}
    assert len(told) == 3
    assert set(told.values()) == {("false", "false")}


def test_store_of_another_user_is_told_with_what_helps(stack: Stack) -> None:
    stack.write_env(PKG_SERVER_REGION="x", DISABLE_TLS="1")
    folder = stack.folder / "state/store2/cache/artifact"
    folder.mkdir(parents=True)
    done = stack.make(check=False)
    assert done.returncode == 2
    assert "state/store2/cache belongs to another user than the containers'" in done.stderr
    assert f"sudo chown -R {NOBODY}:{NOBODY} ./state/store2" in done.stderr
    assert stack.engine.docker("ps", "--quiet") == ""


def test_root_leaves_a_deployment_to_whose_it_is(stack: Stack) -> None:
    stack.write_env(PKG_SERVER_REGION="x", DISABLE_TLS="1")
    state = stack.folder / "state"
    state.mkdir()
    os.chown(state, 4242, 4343)
    assert "user: 4242:4343" in stack.make("config").stdout
    os.chown(state, 0, 0)
    assert f"user: {NOBODY}:{NOBODY}" in stack.make("config").stdout


def test_root_follows_no_link_that_a_container_has_made(stack: Stack) -> None:
    stack.write_env(PKG_SERVER_REGION="x", DISABLE_TLS="1")
    owned, missing = stack.folder / "owned-by-root", stack.folder / "missing"
    owned.mkdir()
    hits, store = stack.folder / "state/logs/hits", stack.folder / "state/store1"
    for folder in (hits, store):
        folder.mkdir(parents=True)
    (hits / "1").symlink_to(owned)
    assert "hits/1/ belongs to another user" in stack.make(check=False).stderr
    assert owned.stat().st_uid == 0
    (hits / "1").unlink()
    (store / "all-verified").symlink_to(missing)
    assert "all-verified" in stack.make(check=False).stderr
    assert not missing.exists()


def test_what_was_wrong_and_is_mended_starts_at_once(stack: Stack, shared: Shared) -> None:
    certificates = stack.folder / "own"
    stack.write_env(PKG_SERVER_FQDN=FQDN, STORAGE_SERVERS=shared.storage.url, TLS_CERTIFICATES_DIR="./own")
    certificates.mkdir()
    missing = stack.make(check=False)
    assert "TLS_CERTIFICATES_DIR has no fullchain.pem and privkey.pem" in missing.stderr
    assert stack.engine.docker("ps", "--quiet") == ""
    key, certificate = make_certificate(certificates)
    good, _ = certificate.read_bytes(), certificate.write_text("damaged")
    refused = stack.make(check=False)
    assert refused.returncode == 2
    assert 'cannot load certificate "/certificates/fullchain.pem"' in refused.stderr
    certificate.write_bytes(good)
    stack.make()
    answer = httpx.get(f"https://{stack.engine.address}/healthz", verify=False, trust_env=False)  # noqa: S501 # it answers
    assert answer.status_code == 200
    key.chmod(0o600)
    unreadable = stack.make(check=False)
    assert "that user 65532 can read" in unreadable.stderr


def test_the_certificate_of_the_mirrors_host_is_looked_for(stack: Stack) -> None:
    certificates = stack.folder / "own"
    certificates.mkdir()
    make_certificate(certificates)
    stack.write_env(PKG_SERVER_FQDN=FQDN, TLS_CERTIFICATES_DIR="./own", S3_MIRROR_FQDN="mirror.example.org")
    refused = stack.make(check=False)
    assert refused.returncode == 2
    assert "TLS_CERTIFICATES_DIR has no mirror/fullchain.pem and mirror/privkey.pem" in refused.stderr
    assert stack.engine.docker("ps", "--quiet") == ""


def test_servers_believe_the_network_that_is_there(stack: Stack, shared: Shared) -> None:
    labels = ("--label=com.docker.compose.project=pkgserver", "--label=com.docker.compose.network=inside")
    stack.engine.docker("network", "create", "--internal", "--subnet", stack.engine.subnet, *labels, "pkgserver_inside")
    subnet = stack.engine.subnet.replace(".0/24", ".128/25")
    stack.write_env(PKG_SERVER_FQDN=FQDN, DISABLE_TLS="1", STORAGE_SERVERS=shared.storage.url, INSIDE_SUBNET=subnet)
    stack.make()
    assert stack.engine.inspect("pkgserver_inside")["IPAM"]["Config"][0]["Subnet"] == subnet


@pytest.mark.parametrize("available", ["nothing", "no compose", "an old compose"])
def test_what_the_host_lacks_is_told(stack: Stack, available: str) -> None:
    stack.write_env(PKG_SERVER_REGION="x", DISABLE_TLS="1")
    docker = stack.folder / "bin/docker"
    docker.unlink()
    if available != "nothing":
        docker.write_text("#!/bin/sh\n" + ("exit 1" if available == "no compose" else "echo v2.19.1"))
        docker.chmod(0o755)
    for target in ("up", "status"):
        done = stack.make(target, check=False)
        here = "v2.19.1" if available == "an old compose" else "none"
        assert done.stderr.splitlines()[0].endswith(f"compose 2.20 or newer is needed; here is {here}")


@pytest.mark.parametrize("linked", [False, True], ids=["cache", "link"])
def test_cache_that_cannot_be_verified_is_not_served(stack: Stack, *, linked: bool) -> None:
    stack.write_env(PKG_SERVER_REGION="x", DISABLE_TLS="1")
    store = stack.folder / "state/store1"
    folder = store / ("elsewhere" if linked else "cache") / "artifact"
    folder.mkdir(parents=True)
    if linked:
        (store / "cache").symlink_to("elsewhere")
    (folder / ("0" * 40)).write_bytes(b"unreadable")
    chown(stack.folder / "state", NOBODY)
    (folder / ("0" * 40)).chmod(0)
    done = stack.make(check=False)
    assert done.returncode == 2
    assert "could not be verified: nothing is started" in done.stderr
    assert stack.engine.docker("ps", "--quiet") == ""


def make_certificate(folder: Path) -> tuple[Path, Path]:
    key, certificate = folder / "privkey.pem", folder / "fullchain.pem"
    files = ("-keyout", key, "-out", certificate, "-subj", f"/CN={FQDN}")
    command = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *files)
    subprocess.run(command, check=True, capture_output=True)
    key.chmod(0o644)
    return key, certificate


def chown(folder: Path, user: int) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user, user, follow_symlinks=False)

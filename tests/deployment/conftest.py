"""What the tests of the deployment share: an engine, the image, and a folder that an operator has unpacked."""

from __future__ import annotations

import hashlib
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from tests.conftest import require
from tests.deployment.containers import IMAGE, CommandError, running_engine
from tests.deployment.stack import (
    BUCKET,
    FQDN,
    GRAFANA_PASSWORD,
    MIRROR_FQDN,
    PASSWORD,
    ROOT,
    Shared,
    Stack,
    unpacked_stack,
)
from tests.integration.storage import open_storage

from pkgserver_trio.demo.sample import build_sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.deployment.containers import Engine

HOW_TO_GET = "as root, tests/deployment/engine install"


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Give an engine; skip the test, or fail it, where none can run."""
    with ExitStack() as stack:
        try:
            engine = stack.enter_context(running_engine())
        except CommandError as error:
            require("docker", available=False, how_to_get=f"{HOW_TO_GET} ({error})")
            raise
        yield engine


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    """Build the image from the stand-in of its base."""
    engine.load("python")
    engine.run("docker", "build", "--quiet", "--file", "docker/Dockerfile", "--tag", IMAGE, ".", cwd=ROOT)
    return IMAGE


@pytest.fixture(scope="session")
def front_end_image(engine: Engine) -> None:
    """Have the stand-in for the image of the front end."""
    engine.load("frontend")


@pytest.fixture(scope="session")
def images(engine: Engine, image: str, front_end_image: None) -> None:
    """Have what a deployment runs."""
    engine.load("autoheal")


@pytest.fixture(scope="session")
def shared(engine: Engine, images: None) -> Iterator[Shared]:
    """Give the deployment that many tests use; it may not be up."""
    with (
        open_storage(dict(build_sample().files), engine.host_address) as storage,
        unpacked_stack(engine) as stack,
        socket.socket() as held,
    ):
        # A port that nobody else gets, for an origin that comes and goes.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((engine.host_address, 0))
        address, port = held.getsockname()
        password = hashlib.sha256(PASSWORD.encode()).hexdigest()
        stack.write_env(
            PKG_SERVER_FQDN=FQDN,
            DISABLE_TLS="1",
            STORAGE_SERVERS=storage.url,
            ADMIN_TOKEN_SHA256=password,
            S3_MIRROR_FQDN=MIRROR_FQDN,
            S3_MIRROR_BUCKET_LIST=f"{BUCKET}=http://{address}:{port}",
        )
        with (stack.folder / ".env").open("a") as file:
            file.write(f"GRAFANA_ADMIN_PASSWORD='{GRAFANA_PASSWORD}'\n")
        yield Shared(stack, storage, (address, port))


@pytest.fixture
def running(shared: Shared) -> Stack:
    """Return the deployment that many tests use, up and ready."""
    shared.bring_up()
    return shared.stack


@pytest.fixture
def stack(engine: Engine, shared: Shared) -> Iterator[Stack]:
    """Give a deployment that is not started, without a `.env`; in the end it is taken down."""
    shared.stand_aside()
    with unpacked_stack(engine) as stack:
        yield stack

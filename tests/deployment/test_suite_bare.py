"""The suite that knows a server by its URL, against the image with nothing before it."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from tests.acceptance.suite import *  # noqa: F403 # what its tests are called is their own business
from tests.acceptance.target import Target, eventually
from tests.deployment.stack import PASSWORD, QUICK
from tests.integration.storage import open_storage

from pkgserver_trio.demo.sample import build_sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.deployment.containers import Engine

pytestmark = pytest.mark.integration

FQDN = "bare.pkg.invalid"


@contextmanager
def image_target(
    engine: Engine, image: str, *, port: int, admin_password: str | None, flavorless: bool
) -> Iterator[Target]:
    with open_storage(dict(build_sample().files), engine.host_address) as storage:
        settings = {
            **QUICK,
            "JULIA_PKG_SERVER_STORAGE_SERVERS": storage.url,
            "JULIA_PKG_SERVER_FQDN": FQDN,
            "JULIA_PKG_SERVER_FLAVORLESS": str(flavorless).lower(),
        }
        if admin_password is not None:
            settings["JULIA_PKG_SERVER_ADMIN_TOKEN_SHA256"] = hashlib.sha256(admin_password.encode()).hexdigest()
        options = [f"--env={name}={value}" for name, value in settings.items()]
        with engine.container("--read-only", "--tmpfs=/tmp", f"--publish={port}:8000", *options, image):
            url = f"http://{engine.address}:{port}"
            target = Target(
                base_url=url,
                server_urls=(url,),
                storage=storage,
                admin_password=admin_password,
                public_url=f"https://{FQDN}",
                flavorless=flavorless,
            )
            eventually(lambda: is_ready(target))
            yield target


def is_ready(target: Target) -> bool:
    try:
        with target.client() as client:
            return b'"status": "ok"' in client.ask("/readyz")[2]
    except OSError:  # it does not listen yet
        return False


@pytest.fixture(scope="module")
def target(engine: Engine, image: str) -> Iterator[Target]:
    with image_target(engine, image, port=9001, admin_password=PASSWORD, flavorless=False) as target:
        yield target


@pytest.fixture(scope="module")
def flavorless_target(engine: Engine, image: str) -> Iterator[Target]:
    with image_target(engine, image, port=9002, admin_password=None, flavorless=True) as target:
        yield target

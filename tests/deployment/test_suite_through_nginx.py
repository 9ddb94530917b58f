"""The suite that knows a server by its URL, against two servers with nginx before them, as `make` starts them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from tests.acceptance.suite import *  # noqa: F403 # what its tests are called is their own business
from tests.acceptance.target import Target, eventually
from tests.deployment.stack import unpacked_stack
from tests.deployment.test_suite_bare import is_ready
from tests.integration.storage import open_storage

from pkgserver_trio.demo.sample import build_sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.deployment.containers import Engine

pytestmark = pytest.mark.integration

PASSWORD = "correct horse"
FQDN = "starfleet.pkg.invalid"


@pytest.fixture(scope="module")
def target(engine: Engine, images: None) -> Iterator[Target]:
    with open_storage(build_sample().files, engine.host_address) as storage, unpacked_stack(engine) as stack:
        stack.write_env(
            PKG_SERVER_FQDN=FQDN,
            DISABLE_TLS="1",
            STORAGE_SERVERS=storage.url,
            ADMIN_TOKEN_SHA256=hashlib.sha256(PASSWORD.encode()).hexdigest(),
        )
        stack.make()
        target = Target(
            base_url=stack.url,
            server_urls=stack.server_urls(),
            roots=(stack.folder / "state/store1", stack.folder / "state/store2"),
            storage=storage,
            admin_password=PASSWORD,
            public_url=f"http://{FQDN}",
        )
        eventually(lambda: is_ready(target))
        yield target


@pytest.fixture
def flavorless_target() -> Target:
    pytest.skip("to be flavorless is shown by the image alone")

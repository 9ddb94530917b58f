"""The suite that knows a server by its URL, against two servers with nginx before them, as `make` starts them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.acceptance.suite import *  # noqa: F403 # what its tests are called is their own business
from tests.acceptance.target import Target
from tests.deployment.stack import FQDN, PASSWORD

if TYPE_CHECKING:
    from tests.deployment.stack import Shared

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def target(shared: Shared) -> Target:
    shared.bring_up()
    stack = shared.stack
    return Target(
        base_url=stack.url,
        server_urls=stack.server_urls(),
        roots=(stack.folder / "state/store1", stack.folder / "state/store2"),
        storage=shared.storage,
        admin_password=PASSWORD,
        public_url=f"http://{FQDN}",
    )


@pytest.fixture
def flavorless_target() -> Target:
    pytest.skip("to be flavorless is shown by the image alone")

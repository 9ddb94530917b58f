"""What the tests of the deployment share: an engine, the image, and a folder that an operator has unpacked."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from tests.conftest import require
from tests.deployment.containers import IMAGE, CommandError, running_engine
from tests.deployment.stack import ROOT, Stack, unpacked_stack

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
def images(image: str, front_end_image: None) -> None:
    """Have what a deployment runs."""


@pytest.fixture
def stack(engine: Engine, images: None) -> Iterator[Stack]:
    """Give a deployment that is not started, without a `.env`; in the end it is taken down."""
    with unpacked_stack(engine) as stack:
        yield stack

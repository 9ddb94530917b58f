"""The mirrors before a scripted origin."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from tests.mirror.ports import reserved_port
from tests.mirror.scripted import Mirrors
from tests.mirror.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", params=TARGETS)
def mirrors(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirrors]:
    """Give mirrors of both kinds, one kind after the other."""
    with reserved_port() as port, ExitStack() as stack:
        yield Mirrors(request.param, port, tmp_path_factory.mktemp("mirrors"), stack)

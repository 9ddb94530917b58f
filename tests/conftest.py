"""What every kind of test shares: the rule for parts that a machine may lack, and who runs beside whom."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    from xdist.remote import Producer


def require(part: str, *, available: bool, how_to_get: str) -> None:
    """Skip the test when `part` is missing, or fail it when this machine promised to have `part`.

    `REQUIRED_TEST_PARTS` holds the promised parts (`julia,nginx,python3.13`): continuous integration sets it, so
    that a part lost there turns the run red instead of quietly testing less.
    """
    if available:
        return
    message = f"{part} is missing; to get it: {how_to_get}"
    if part in os.environ.get("REQUIRED_TEST_PARTS", "").split(","):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


class ByModule(LoadFileScheduling):  # type: ignore[misc] # xdist ships no types
    """The tests of a module run one after the other, by one process, and so do all that start containers."""

    def _split_scope(self, nodeid: str) -> str:
        return "containers" if nodeid.startswith("tests/deployment/test_") else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByModule:
    return ByModule(config, log)

"""What every kind of test shares: the rule for parts that a machine may lack, and who runs beside whom."""

from __future__ import annotations

import os

import pytest


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


@pytest.hookimpl(tryfirst=True)  # xdist looks at the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a module together when others run beside them, and all those that share an engine."""
    for item in items:
        shared = "engine" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("engine" if shared else item.nodeid.partition("::")[0]))

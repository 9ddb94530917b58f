"""A server that is configured to be flavorless, and without a password for `/admin`.

Answers of PkgServer.jl's tests: its flavorless server, and `/admin` where no token is set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.acceptance.target import lacks
from tests.acceptance.test_registries import CI, LINE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.acceptance.target import Target
    from tests.e2e.client import Client


@pytest.fixture
def flavorless_client(flavorless_target: Target) -> Iterator[Client]:
    """Give a client of the flavorless server."""
    with flavorless_target.client() as client:
        yield client


@pytest.mark.parametrize("headers", [{}, {"Julia_CI_Variables": CI}, {"Julia_Registry_Preference": "eager"}])
def test_there_is_one_list_for_all_and_no_redirect(flavorless_client: Client, headers: dict[str, str]) -> None:
    status, _, body = flavorless_client.ask("/registries", **headers)
    assert status == 200
    for path in body.decode().splitlines():
        assert LINE.fullmatch(path)
        assert flavorless_client.ask(path)[0] == 200


@pytest.mark.parametrize("flavor", ["eager", "conservative"])
def test_no_flavor_is_found(flavorless_client: Client, flavor: str) -> None:
    assert flavorless_client.ask(f"/registries.{flavor}")[0] == 404


@pytest.mark.parametrize("path", ["/admin", "/admin/logs", "/admin/no/such"])
def test_admin_is_disabled_without_a_password_and_says_so(
    flavorless_target: Target, flavorless_client: Client, path: str
) -> None:
    if flavorless_target.admin_password is not None:
        lacks("disabled /admin")
    status, _, body = flavorless_client.ask(path)
    assert status == 404
    assert b"disabled" in body

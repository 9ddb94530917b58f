"""`/admin`: who gets in, and the log, live.

Answers of PkgServer.jl's tests: failures and success of authentication, and streaming of the log with and without
colours and debug messages. `/admin` without a token is in test_flavorless.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from tests.acceptance.fixtures import basic
from tests.acceptance.target import eventually
from tests.acceptance.watch import watching

if TYPE_CHECKING:
    from tests.acceptance.target import Target
    from tests.acceptance.watch import Watch
    from tests.e2e.client import Client


def ask_until_told(client: Client, watch: Watch) -> None:
    """Ask for things that do not exist until the log tells of one; each of several servers has a log of its own."""
    asked = []

    def is_told() -> bool:
        path = f"/artifact/{uuid4().hex:0>40}"
        assert client.ask(path)[0] == 404
        asked.append(path.encode())
        return any(path in watch.text for path in asked)

    eventually(is_told)


@pytest.mark.parametrize("path", ["/admin", "/admin/logs", "/admin/no/such"])
def test_who_says_nothing_is_asked_for_a_password(client: Client, authorization: str, path: str) -> None:
    status, headers, _ = client.ask(path)
    assert status == 401
    assert headers["WWW-Authenticate"].startswith("Basic")


@pytest.mark.parametrize(
    "wrong", [basic("admin", "guess"), basic("root", "guess"), "Basic !", "Bearer guess"], ids=["1", "2", "3", "4"]
)
def test_who_says_something_wrong_is_not_let_in(client: Client, authorization: str, wrong: str) -> None:
    status, headers, _ = client.ask("/admin", Authorization=wrong)
    assert status == 401
    assert headers["WWW-Authenticate"].startswith("Basic")


def test_operator_is_welcomed_and_told_what_there_is(client: Client, authorization: str) -> None:
    status, _, body = client.ask("/admin", Authorization=authorization)
    assert status == 200
    assert body.startswith(b"Welcome to the /admin endpoint of the package server.")
    assert b"/admin/logs" in body
    assert client.ask("/admin/no/such", Authorization=authorization)[0] == 404


def test_log_is_streamed_in_colour_and_without_debug_messages(
    target: Target, client: Client, authorization: str
) -> None:
    with watching(target, authorization) as watch:
        ask_until_told(client, watch)
        assert b"\x1b[" in watch.text
        assert b"not downloaded" not in watch.text


def test_log_is_streamed_without_colour_and_with_debug_messages(
    target: Target, client: Client, authorization: str
) -> None:
    with watching(target, authorization, "?level=debug&color=false") as watch:
        ask_until_told(client, watch)
        eventually(lambda: b"not downloaded" in watch.text)
        assert b"\x1b" not in watch.text

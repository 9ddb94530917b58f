from __future__ import annotations

import base64
import hashlib

import pytest

from pkgserver_trio.web.admin_access import AT_ONCE, MAX_PEERS, PAUSE_SECONDS, Failure, Failures, is_admin

PASSWORD = "s3cr3t: with a colon, and ö"
HASH = hashlib.sha256(PASSWORD.encode()).hexdigest()
PEER = "192.0.2.1"


def basic(credentials: str) -> str:
    return f"Basic {base64.b64encode(credentials.encode()).decode()}"


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC"])
def test_user_and_password_are_right_in_any_case_of_the_scheme(scheme: str) -> None:
    assert is_admin(basic(f"admin:{PASSWORD}").replace("Basic", scheme), HASH)


@pytest.mark.parametrize(
    "authorization",
    [
        basic(f"Admin:{PASSWORD}"),
        basic(f"root:{PASSWORD}"),
        basic(f":{PASSWORD}"),
        basic("admin:"),
        basic("admin"),
        basic(f"admin:{PASSWORD} "),
        basic(f"admin:{HASH}"),
        basic(""),
        "",
        "Basic",
        "Basic A",
        "Basic \xff",
        f"Bearer {PASSWORD}",
        f"{basic(f'admin:{PASSWORD}')}, Basic eA==",
    ],
)
def test_nothing_else_is_right(authorization: str) -> None:
    assert not is_admin(authorization, HASH)


def test_some_failures_are_answered_at_once_and_then_one_after_each_pause() -> None:
    failures = Failures()
    assert [failures.count(PEER, 100) for _ in range(AT_ONCE)] == [Failure(0, 0)] * AT_ONCE
    assert failures.count(PEER, 100) == Failure(PAUSE_SECONDS, 0)
    assert failures.count(PEER, 102) == Failure(PAUSE_SECONDS - 2, 1)
    assert failures.count(PEER, 100 + PAUSE_SECONDS) == Failure(0, 2)
    assert failures.count(PEER, 100 + PAUSE_SECONDS).wait_seconds == PAUSE_SECONDS


def test_peers_are_counted_apart_and_forgotten_with_time() -> None:
    failures = Failures()
    for _ in range(AT_ONCE + 1):
        failures.count(PEER, 0)
    assert failures.count("192.0.2.2", 0).wait_seconds == 0
    later = (AT_ONCE + 1) * PAUSE_SECONDS
    assert [failures.count(PEER, later).wait_seconds for _ in range(AT_ONCE)] == [0] * AT_ONCE


def test_only_so_many_peers_are_remembered_and_the_one_heard_of_last_is_not_forgotten() -> None:
    failures = Failures()
    for number in range(MAX_PEERS + 100):
        for _ in range(AT_ONCE + 1 if number % 1000 == 0 else 1):
            failures.count(f"peer {number}", 0)
    assert len(failures._peers) == MAX_PEERS
    assert failures.count(f"peer {MAX_PEERS - MAX_PEERS % 1000}", 0).wait_seconds > 0
    assert failures.count("peer 0", 0).wait_seconds == 0

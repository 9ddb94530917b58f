"""What the tests of this folder ask a target for."""

from __future__ import annotations

import base64
from contextlib import ExitStack
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from tests.acceptance.target import connected, lacks
from tests.web.tarball import Tarball, build_tarball

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.acceptance.target import Target
    from tests.e2e.client import Client
    from tests.integration.storage import ScriptedStorage


@pytest.fixture
def client(target: Target) -> Iterator[Client]:
    """Give a client."""
    with target.client() as client:
        yield client


@pytest.fixture
def servers(target: Target) -> Iterator[Sequence[Client]]:
    """Give a client of each server that the target is made of."""
    if not target.server_urls:
        lacks("address without anything in between")
    with ExitStack() as stack:
        yield [stack.enter_context(connected(url)) for url in target.server_urls]


@pytest.fixture
def storage(target: Target) -> ScriptedStorage:
    """Return the storage server of the target."""
    if target.storage is None:
        lacks("scripted storage server")
    return target.storage


@pytest.fixture
def fresh(storage: ScriptedStorage) -> Callable[[int], Tarball]:
    """Return what offers an artifact, of a file of so many bytes, that nobody ever asked for."""

    def offer(size_bytes: int) -> Tarball:
        tarball = build_tarball(size_bytes, uuid4().bytes)  # the store may be older than this run
        storage.files[tarball.path] = tarball.body
        return tarball

    return offer


@pytest.fixture
def authorization(target: Target) -> str:
    """Return the header that lets the operator in."""
    if target.admin_password is None:
        lacks("password for /admin")
    return basic("admin", target.admin_password)


def basic(user: str, password: str) -> str:
    """Return what `Authorization` says of a user."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

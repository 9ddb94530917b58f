"""A package server as its clients meet it, wherever it runs: all that the tests of this folder know of it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import pytest
from tests.e2e.client import Client

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.storage import ScriptedStorage

#: No fact that a test waits for takes so long, but on a machine that hangs.
PATIENCE_SECONDS = 20


@dataclass(frozen=True, kw_only=True)
class Target:
    """The server at `base_url`; the tests that need a part of it that is empty or None here are skipped.

    `server_urls` are the same server, or the servers behind it, with nothing in between: there each tells what it
    counts. `roots` are the folders of their stores. `storage` is their only storage server, and offers the sample.
    `public_url` is how they are configured to call themselves. `tls` says whom to trust.
    """

    base_url: str
    server_urls: tuple[str, ...] = ()
    roots: tuple[Path, ...] = ()
    storage: ScriptedStorage | None = None
    admin_password: str | None = None
    public_url: str | None = None
    flavorless: bool = False
    tls: ssl.SSLContext | None = None

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Connect to it."""
        with connected(self.base_url, self.tls) as client:
            yield client


@contextmanager
def connected(url: str, tls: ssl.SSLContext | None = None) -> Iterator[Client]:
    """Give a client of its own connection."""
    client = Client(url, tls=tls)
    try:
        yield client
    finally:
        client.close()


def lacks(part: str) -> NoReturn:
    """Skip the test."""
    pytest.skip(f"this suite knows no {part} of the server under test")


def eventually(is_so: Callable[[], object]) -> None:
    """Return once something holds that another process brings about; asking is what takes the time in between."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "it never came about"


def get_until_cached(client: Client, path: str, body: bytes) -> int:
    """Ask until the answer is a hit; each is right. Return how often that was."""
    times = 0

    def is_hit() -> bool:
        nonlocal times
        times += 1
        status, headers, received = client.ask(path)
        assert (status, received) == (200, body)
        return headers["X-Cache-Miss"] is None

    eventually(is_hit)
    return times

"""The `healthcheck` command: whether the server at the configured address lives.

It runs every few seconds beside the server, so it imports next to nothing and never takes long.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Final

import click

from pkgserver_trio.storage.lock_sign import is_draining

if TYPE_CHECKING:
    from pathlib import Path

    from pkgserver_trio.settings import ListenAddress

#: How long the server may take, from the connection to the first line of its answer.
PATIENCE_SECONDS: Final = 2.0

# Where a server can be asked that listens on every address.
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - looked up, not listened on
_HEALTHY: Final = b"HTTP/1.1 200 "


class UnhealthyError(Exception):
    """No server answers `/healthz` as a living one does; the text says what happened instead."""


def healthcheck(address: ListenAddress, lock: Path | None = None) -> int:
    """Ask the server that listens on `address`; print one line and return 0 when it lives, else 1.

    `lock` is the lock file of its store, if that is known: a server that ends in order accepts nobody, and is not ill.
    """
    host = _LOOPBACK.get(address.host, address.host)
    url = f"http://{f'[{host}]' if ':' in host else host}:{address.port}/healthz"
    try:
        _ask(host, address.port)
    except UnhealthyError as error:
        if lock is not None and is_draining(lock):
            click.echo(f"healthy: {url}: it ends, and finishes what it has begun")
            return 0
        click.echo(f"unhealthy: {url}: {error}")
        return 1
    click.echo(f"healthy: {url}")
    return 0


def _ask(host: str, port: int) -> None:
    """Raise UnhealthyError unless the server answers in time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    try:
        with socket.create_connection((host, port), PATIENCE_SECONDS) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = _read_start(connection, deadline)
    except TimeoutError:
        raise UnhealthyError(f"no answer within {PATIENCE_SECONDS:g} seconds") from None
    except OSError as error:
        raise UnhealthyError(error.strerror or str(error)) from error
    if not answer.startswith(_HEALTHY):
        line, _, _ = answer.partition(b"\r")
        raise UnhealthyError(f"it answers {line.decode('latin-1')!r}")


def _read_start(connection: socket.socket, deadline: float) -> bytes:
    """Return the first bytes of the answer, enough of them to tell. Raises OSError, TimeoutError among them."""
    answer = b""
    while len(answer) < len(_HEALTHY):
        connection.settimeout(max(deadline - time.monotonic(), 0.001))  # 0 would mean something else: not to block
        piece = connection.recv(80)
        if not piece:
            break
        answer += piece
    return answer

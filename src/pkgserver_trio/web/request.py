"""A request, as those who answer it see it, and its name."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from quart_trio.wrappers import TrioRequest

from pkgserver_trio.request_id import HEADER, REQUEST_ID, claimed_id

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import ExitStack

    from pkgserver_trio.web.request_line import RequestLine


class Request(TrioRequest):
    """A request, what was opened for it, whom its costs are counted for (`peers.peer_of`), and its line in the log."""

    belongings: ExitStack
    peer: str
    line: RequestLine


def name_request(headers: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    """Name the request that this task answers; return the header that says so."""
    request_id = claimed_id(headers) or secrets.token_hex(16)
    REQUEST_ID.set(request_id)
    return (HEADER, request_id.encode())

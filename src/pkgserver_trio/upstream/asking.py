"""How a server upstream is asked over httpx: once more where that is safe, and with failures in our own words."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import trio

from pkgserver_trio.errors import BrokenError, SilentError
from pkgserver_trio.tarballs.inflate import TarballError
from pkgserver_trio.upstream.http_client import http_client, trust

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from pkgserver_trio.settings import Settings

#: A server that refuses HEAD may still have what it was asked for.
HEAD_REFUSED = frozenset({405, 501})


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds: for a connection, for a response head, and while a body is silent."""

    connect_seconds: float
    head_seconds: float
    body_seconds: float


@dataclass(frozen=True, slots=True)
class Clients:
    """What a server is asked with: busy bodies never hold a probe up, and `anew` keeps no connection."""

    probes: httpx.AsyncClient
    bodies: httpx.AsyncClient
    anew: httpx.AsyncClient


def patience_of(settings: Settings) -> Patience:
    """Return the patience that is configured."""
    return Patience(settings.connect_seconds, settings.head_seconds, settings.body_seconds)


@asynccontextmanager
async def open_clients(settings: Settings, transport: httpx.AsyncBaseTransport | None) -> AsyncIterator[Clients]:
    """Open the clients, with the configured times and authorities; `transport` as in `http_client`.

    Raises SettingsError.
    """
    tls = trust(settings.ca_file)
    connecting = httpx.Timeout(None, connect=settings.connect_seconds)  # for bodies, `Pieces` has the other limits
    probing = httpx.Timeout(settings.head_seconds, connect=settings.connect_seconds)
    async with (
        http_client(probing, tls, transport) as probes,
        http_client(connecting, tls, transport) as bodies,
        http_client(connecting, tls, transport, keep=0) as anew,
    ):
        yield Clients(probes, bodies, anew)


@asynccontextmanager
async def answer_to(
    request: httpx.Request,
    client: httpx.AsyncClient,
    anew: httpx.AsyncClient,
    **how: Any,  # noqa: ANN401 # httpx's own
) -> AsyncIterator[httpx.Response]:
    """Open the answer; ask once more, by `anew`, when the connection ends before one. `how` is for `send`.

    A server may close a kept connection at the moment when it is used again (RFC 9112, 9.3.1).
    """
    try:
        response = await client.send(request, stream=True, **how)
    except (httpx.ReadError, httpx.RemoteProtocolError) as error:
        if not _is_unanswered(error):
            raise
        response = await anew.send(request, stream=True, **how)
    try:
        yield response
    finally:
        await response.aclose()


def _is_unanswered(error: httpx.TransportError) -> bool:
    # Of what breaks the protocol, httpx tells by its text alone.
    return isinstance(error, httpx.ReadError) or "without sending a response" in str(error)


@contextmanager
def failures_of(name: str) -> Iterator[None]:
    """Tell failures of the server called `name` as SilentError and BrokenError."""
    try:
        yield
    except (httpx.TimeoutException, trio.TooSlowError) as error:
        raise SilentError(name, _reason(error)) from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError, TarballError) as error:
        raise BrokenError(name, _reason(error)) from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__} {error}".strip()


def is_coded(response: httpx.Response) -> bool:
    """Tell whether the body has a content coding."""
    return response.headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"}


def length_of(response: httpx.Response) -> int | None:
    """Return the bytes that Content-Length tells of; None when it does not say, or what is no size."""
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None  # noqa: PLR2004 # fits 64 bits


def strong_tag_of(response: httpx.Response) -> str | None:
    """Return the strong entity tag, if there is one that can be sent back."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') and etag.isascii() and etag.isprintable() else None

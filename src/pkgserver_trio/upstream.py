"""The storage servers, over httpx: probes, bodies and listings, each bounded in time, failures in our own words."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import certifi
import httpx
import trio

from pkgserver_trio.backoff import Backoff
from pkgserver_trio.credentials import masked
from pkgserver_trio.errors import AbsentError, BrokenError, SilentError
from pkgserver_trio.registry_list import MAX_LISTING_BYTES
from pkgserver_trio.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from pkgserver_trio.settings import Settings

_ABSENT = frozenset({403, 404, 410})
#: A server that refuses HEAD may still have the resource.
_HEAD_REFUSED = frozenset({405, 501})
_MAX_REDIRECTS = 5
#: No proxy stands between this machine and itself, whatever HTTP_PROXY says.
_LOCAL = ("all://127.0.0.1", "all://localhost", "all://[::1]")


@dataclass(frozen=True, slots=True)
class Head:
    """What a response head says of a body: its size in bytes, None when it does not say."""

    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class ListingAnswer:
    """A listing as a server has it now, and the validator to ask with next time."""

    body: bytes
    etag: str | None
    last_modified: str | None


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds: for a connection, for a response head, and while a body is silent."""

    connect_seconds: float
    head_seconds: float
    body_seconds: float


class StorageServer:
    """One upstream. Probes and bodies use separate clients, so that busy bodies never hold a probe up."""

    def __init__(self, url: str, *, probes: httpx.AsyncClient, bodies: httpx.AsyncClient, patience: Patience) -> None:
        self.name = masked(url)
        self.backoff = Backoff()
        self._url = url
        self._probes = probes
        self._bodies = bodies
        self._patience = patience

    async def probe(self, path: str) -> Head:
        """Ask by HEAD whether the server has `path`. Raises AbsentError, SilentError, BrokenError."""
        with self._failures(), self._head_deadline() as deadline:
            async with self._probes.stream("HEAD", self._url + path) as response:
                deadline.deadline = float("inf")
                if response.status_code in _HEAD_REFUSED:
                    return Head(None)
                self._check_status(response)
                return Head(_content_length(response))

    async def has(self, path: str) -> bool | None:
        """Tell whether the server has `path`; None when it did not say."""
        try:
            await self.probe(path)
        except AbsentError:
            return False
        except (SilentError, BrokenError):
            return None
        return True

    @asynccontextmanager
    async def open_body(self, path: str) -> AsyncIterator[tuple[Head, AsyncIterator[bytes]]]:
        """GET `path`: its head, and its bytes as they arrive. Raises AbsentError, SilentError, BrokenError.

        There is no limit on the whole transfer, only on silence.
        """
        with self._failures(), self._head_deadline() as deadline:
            async with self._bodies.stream("GET", self._url + path) as response:
                deadline.deadline = float("inf")
                self._check_status(response)
                async with _open_pieces(response) as pieces:
                    yield Head(_content_length(response)), pieces

    async def fetch_listing(self, path: str, etag: str | None) -> ListingAnswer | None:
        """GET a listing of at most `MAX_LISTING_BYTES`; None when it still is the one called `etag`."""
        headers = {} if etag is None else {"If-None-Match": etag}
        with self._failures(), self._head_deadline() as deadline:
            async with self._probes.stream("GET", self._url + path, headers=headers) as response:
                if response.status_code == httpx.codes.NOT_MODIFIED:
                    return None
                self._check_status(response)
                deadline.deadline = trio.current_time() + self._patience.body_seconds
                body = bytearray()
                async with _open_pieces(response) as pieces:
                    async for piece in pieces:
                        body += piece
                        if len(body) > MAX_LISTING_BYTES:
                            raise BrokenError(self.name, f"its {path} is longer than {MAX_LISTING_BYTES} bytes")
        etag = response.headers.get("ETag", "")
        return ListingAnswer(bytes(body), etag if etag.isascii() else None, response.headers.get("Last-Modified"))

    def _check_status(self, response: httpx.Response) -> None:
        if response.status_code in _ABSENT:
            raise AbsentError(self.name, f"status {response.status_code}")
        if response.status_code != httpx.codes.OK:
            raise BrokenError(self.name, f"status {response.status_code}")

    @contextmanager
    def _head_deadline(self) -> Iterator[trio.CancelScope]:
        # One limit over connecting, redirects and the head: httpx alone would count each of them, and each byte, anew.
        with trio.fail_after(self._patience.connect_seconds + self._patience.head_seconds) as scope:
            yield scope

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (httpx.TimeoutException, trio.TooSlowError) as error:
            raise SilentError(self.name, _reason(error)) from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError) as error:
            raise BrokenError(self.name, _reason(error)) from error


@asynccontextmanager
async def _open_pieces(response: httpx.Response) -> AsyncIterator[AsyncIterator[bytes]]:
    pieces = response.aiter_raw()
    try:
        yield pieces
    finally:
        # httpx nests generators, and only from within do all of them end: cancelled in the innermost.
        with trio.move_on_after(0, shield=True), suppress(httpx.HTTPError):  # noqa: ASYNC100 # the checkpoint is theirs
            async for _ in pieces:
                pass


def _reason(error: Exception) -> str:
    return f"{type(error).__name__} {error}".strip()


def _content_length(response: httpx.Response) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None  # noqa: PLR2004 # fits 64 bits


@asynccontextmanager
async def open_storage_servers(
    settings: Settings, *, transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator[tuple[StorageServer, ...]]:
    """Open the configured storage servers, in their order; `transport` replaces the network in tests."""
    patience = Patience(settings.connect_seconds, settings.head_seconds, settings.body_seconds)
    tls = _trust(settings.ca_file)
    async with _client(patience, tls, transport) as probes, _client(patience, tls, transport) as bodies:
        yield tuple(
            StorageServer(url, probes=probes, bodies=bodies, patience=patience) for url in settings.storage_servers
        )


def _trust(ca_file: str | None) -> ssl.SSLContext:
    tls = ssl.create_default_context()  # the system's authorities, which a slim image may lack
    tls.load_verify_locations(certifi.where())
    if ca_file is not None:
        try:
            tls.load_verify_locations(ca_file)
        except OSError as error:  # ssl.SSLError is one
            name = "PKGSERVER_CA_FILE"
            raise SettingsError(f"{name} is {ca_file!r}, expected a readable PEM file: {error}", name) from error
    return tls


def _client(patience: Patience, tls: ssl.SSLContext, transport: httpx.AsyncBaseTransport | None) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=transport,
        verify=tls,
        headers={"Accept-Encoding": "identity"},
        mounts=dict.fromkeys(_LOCAL),
        follow_redirects=True,
        max_redirects=_MAX_REDIRECTS,
        timeout=httpx.Timeout(patience.body_seconds, connect=patience.connect_seconds, pool=None),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=30),
        event_hooks={"response": [_refuse_downgrade]},
    )


async def _refuse_downgrade(response: httpx.Response) -> None:
    """Follow no redirect from https to http: what was asked in secret is not repeated in the open."""
    target = response.headers.get("Location", "")
    if response.is_redirect and response.url.scheme == "https" and response.url.join(target).scheme != "https":
        raise httpx.RemoteProtocolError(f"redirects from https to {target}", request=response.request)

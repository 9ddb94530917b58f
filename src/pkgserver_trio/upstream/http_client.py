"""The HTTP clients that ask others: whom they trust, how long they wait, where they follow a redirect to."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import certifi
import httpx
import trio

from pkgserver_trio.request_id import HEADER, REQUEST_ID
from pkgserver_trio.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MAX_REDIRECTS = 5
#: Idle connections of one client.
_MAX_KEPT = 32
#: No proxy stands between this machine and itself, whatever HTTP_PROXY says.
_LOCAL = ("all://127.0.0.1", "all://localhost", "all://[::1]")
_NO_PROXY = "HTTPS_PROXY, HTTP_PROXY or ALL_PROXY is no address of a proxy, expected http://host:port"


def trust(ca_file: str | None) -> ssl.SSLContext:
    """Return whom to believe: the system's authorities, the web's, and those in `ca_file`. Raises SettingsError."""
    tls = ssl.create_default_context()  # the system's, which a slim image may lack
    tls.load_verify_locations(certifi.where())
    if ca_file is not None:
        try:
            tls.load_verify_locations(ca_file)
        except OSError as error:  # ssl.SSLError is one
            name = "PKGSERVER_CA_FILE"
            raise SettingsError(f"{name} is {ca_file!r}, expected a readable PEM file: {error}", name) from error
    return tls


def http_client(
    timeout: httpx.Timeout, tls: ssl.SSLContext, transport: httpx.AsyncBaseTransport | None, *, keep: int = _MAX_KEPT
) -> httpx.AsyncClient:
    """Return a client, to be closed, that keeps `keep` connections; `transport` replaces the network in tests.

    Raises SettingsError when the environment names a proxy that cannot be one.
    """
    try:
        return httpx.AsyncClient(
            transport=transport,
            verify=tls,
            headers={"Accept-Encoding": "identity"},
            mounts=dict.fromkeys(_LOCAL),
            follow_redirects=True,
            max_redirects=MAX_REDIRECTS,
            timeout=timeout,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=keep, keepalive_expiry=30),
            event_hooks={"request": [_name_the_request], "response": [_refuse_downgrade]},
        )
    except (ValueError, httpx.InvalidURL, ImportError):  # the last one for SOCKS
        raise SettingsError(_NO_PROXY) from None  # what httpx says of it may be a part of a password


async def _name_the_request(request: httpx.Request) -> None:
    """Tell upstream which of our requests it is asked for, if for one."""
    request_id = REQUEST_ID.get()
    if request_id:
        request.headers[HEADER.decode()] = request_id


async def _refuse_downgrade(response: httpx.Response) -> None:
    """Follow no redirect from https to http, where a secret would be told in the open, and none to nowhere."""
    target = response.headers.get("Location", "")
    if not response.is_redirect:
        return
    try:
        scheme = response.url.join(target).scheme
    except (ValueError, httpx.InvalidURL) as error:  # httpx would let some of them through, and the process end
        raise httpx.RemoteProtocolError("redirects to what is no URL", request=response.request) from error
    if response.url.scheme == "https" and scheme != "https":
        raise httpx.RemoteProtocolError(f"redirects from https to {target}", request=response.request)


@asynccontextmanager
async def raw_body(response: httpx.Response) -> AsyncIterator[AsyncIterator[bytes]]:
    """Open the body as it is on the wire."""
    pieces = response.aiter_raw()
    try:
        yield pieces
    finally:
        # httpx nests generators, and only from within do all of them end: cancelled in the innermost.
        with trio.move_on_after(0, shield=True), suppress(httpx.HTTPError):  # noqa: ASYNC100 # the checkpoint is theirs
            async for _ in pieces:
                pass

"""The front end with one bucket, `abc`, and origins for it."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING

import trio
from tests.deployment.front_end.conftest import front_before
from tests.deployment.front_end.running import PLAIN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    import httpx
    from tests.deployment.front_end.running import FrontEnd

_NOBODY = "127.0.0.1:9"


@asynccontextmanager
async def mirror(
    folder: Path, origin_url: str, places: Mapping[str, str] = MappingProxyType({}), **settings: str
) -> AsyncIterator[tuple[FrontEnd, httpx.AsyncClient]]:
    """Run the front end with the bucket at `origin_url`; its objects are fresh for a second."""
    buckets = {"S3_MIRROR_BUCKET_LIST": f"abc={origin_url};ttl=1", "S3_MIRROR_MIN_FREE": "0"}
    settings = {**PLAIN, **buckets, **settings}
    async with front_before(folder, _NOBODY, _NOBODY, settings=settings, places=places) as (front_end, client):
        yield front_end, client


async def cache_of(client: httpx.AsyncClient, key: str, **headers: str) -> tuple[int, str | None, bytes]:
    """Return what a GET of a key tells: status, cache, body."""
    answer = await client.get(f"/mirror/abc/{key}", headers=headers)
    return answer.status_code, answer.headers.get("X-Cache"), answer.content


@asynccontextmanager
async def saying(answer: bytes, certificates: Path | None = None) -> AsyncIterator[int]:
    """Run an origin that sends these bytes to each client, by TLS if it has a certificate; yield its port."""

    async def serve(stream: trio.abc.Stream) -> None:
        try:
            await stream.receive_some()
            await stream.send_all(answer)
            await stream.aclose()
        except (trio.BrokenResourceError, ssl.SSLError):  # nginx does not trust it
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        if certificates is None:
            await nursery.start(trio.serve_listeners, serve, [listener])
        else:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificates / "fullchain.pem", certificates / "privkey.pem")
            await nursery.start(trio.serve_listeners, serve, [trio.SSLListener(listener, context)])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()

"""The storage servers, over httpx: probes, bodies and listings, each bounded in time, failures in our own words."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import trio

from pkgserver_trio.byte_range import size_by_rest
from pkgserver_trio.credentials import masked
from pkgserver_trio.errors import AbsentError, BrokenError, SilentError
from pkgserver_trio.registry_list import MAX_LISTING_BYTES
from pkgserver_trio.statistics import ServerTally
from pkgserver_trio.upstream.asking import (
    HEAD_REFUSED,
    answer_to,
    failures_of,
    is_coded,
    length_of,
    open_clients,
    patience_of,
    strong_tag_of,
)
from pkgserver_trio.upstream.backoff import Backoff
from pkgserver_trio.upstream.copies import Body, Head
from pkgserver_trio.upstream.http_client import raw_body
from pkgserver_trio.upstream.reception import LEAST_BYTES, Decoded, Pieces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from pkgserver_trio.settings import Settings
    from pkgserver_trio.upstream.asking import Clients, Patience
    from pkgserver_trio.upstream.copies import Rest

_ABSENT = frozenset({403, 404, 410})


@dataclass(frozen=True, slots=True)
class ListingAnswer:
    """A listing as a server has it now, and the validator to ask with next time."""

    body: bytes
    etag: str | None
    last_modified: str | None


class StorageServer:
    """One upstream. `tally` counts what happens with all servers of this name."""

    def __init__(self, url: str, *, clients: Clients, patience: Patience, tally: ServerTally) -> None:
        self.name = masked(url)
        self.backoff = Backoff()
        self.tally = tally
        self._url, self._clients, self._patience = url, clients, patience

    async def probe(self, path: str) -> Head:
        """Ask by HEAD whether the server has `path`. Raises AbsentError, SilentError, BrokenError."""
        with failures_of(self.name), self._deadline(self._patience.connect_seconds + self._patience.head_seconds):
            asked = trio.current_time()
            async with self._ask(self._clients.probes, "HEAD", path) as response:
                self.tally.probe_seconds.observe(trio.current_time() - asked)
                if response.status_code in HEAD_REFUSED:
                    return Head(None)
                self._check_status(response)
                return Head(None) if is_coded(response) else _head(response)

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
    async def open_body(
        self, path: str, *, rest: Rest | None = None, patience: float = 1, least_bytes: int = LEAST_BYTES
    ) -> AsyncIterator[Body]:
        """GET `path`, or the `rest` of it. Raises AbsentError, SilentError, BrokenError.

        There is no limit on the whole transfer, only on silence: `patience` times what is configured; less than
        `least_bytes` in that time is as good as silence. The wait for the head includes connecting, since a probe has
        just connected. A server need not honour `rest`: see `Body.start`.
        """
        headers = {} if rest is None else rest.headers
        with failures_of(self.name), self._deadline(patience * self._patience.head_seconds) as deadline:
            async with self._ask(self._clients.bodies, "GET", path, headers) as response:
                deadline.deadline = float("inf")
                head, start = self._check_head(response, rest)
                async with raw_body(response) as raw:
                    pieces = Pieces(raw, patience * self._patience.body_seconds, least_bytes)
                    if is_coded(response) and await pieces.is_gzip_twice():
                        yield Body(Head(None), start, Decoded(pieces))
                    else:
                        yield Body(head, start, pieces)

    def _check_head(self, response: httpx.Response, rest: Rest | None) -> tuple[Head, int]:
        """Return what a good response says of the whole resource, and the byte of it that the body begins with."""
        if rest is None or response.status_code != httpx.codes.PARTIAL_CONTENT:
            self._check_status(response)
            return _head(response), 0
        size = size_by_rest(response.headers.get("Content-Range"), rest.start)
        if size is None or is_coded(response):
            raise BrokenError(self.name, f"sent another range than the one from byte {rest.start}")
        return Head(size, rest.etag), rest.start

    async def fetch_listing(self, path: str, etag: str | None) -> ListingAnswer | None:
        """GET a listing of at most `MAX_LISTING_BYTES`; None when it still is the one called `etag`."""
        headers = {} if etag is None else {"If-None-Match": etag}
        patience = self._patience
        with failures_of(self.name), self._deadline(patience.connect_seconds + patience.head_seconds) as deadline:
            async with self._ask(self._clients.probes, "GET", path, headers) as response:
                if response.status_code == httpx.codes.NOT_MODIFIED and etag is not None:
                    return None
                self._check_status(response)
                deadline.deadline = trio.current_time() + patience.body_seconds
                body = bytearray()
                async with raw_body(response) as pieces:
                    async for piece in pieces:
                        body += piece
                        if len(body) > MAX_LISTING_BYTES:
                            raise BrokenError(self.name, f"its {path} is longer than {MAX_LISTING_BYTES} bytes")
        etag = response.headers.get("ETag", "")
        return ListingAnswer(bytes(body), etag if etag.isascii() else None, response.headers.get("Last-Modified"))

    @asynccontextmanager
    async def _ask(
        self, client: httpx.AsyncClient, method: str, path: str, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[httpx.Response]:
        request = client.build_request(method, self._url + path, headers=headers)
        async with answer_to(request, client, self._clients.anew) as response:
            yield response

    def _check_status(self, response: httpx.Response) -> None:
        if response.status_code in _ABSENT:
            raise AbsentError(self.name, f"status {response.status_code}")
        if response.status_code != httpx.codes.OK:
            raise BrokenError(self.name, f"status {response.status_code}")

    @contextmanager
    def _deadline(self, seconds: float) -> Iterator[trio.CancelScope]:
        # One limit over connecting, redirects and the head: httpx alone would count each of them, and each byte, anew.
        with trio.fail_after(seconds) as scope:
            yield scope


def _head(response: httpx.Response) -> Head:
    return Head(length_of(response), None if is_coded(response) else strong_tag_of(response))


@asynccontextmanager
async def open_storage_servers(
    settings: Settings, *, transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator[tuple[StorageServer, ...]]:
    """Open the configured storage servers, in their order; `transport` replaces the network in tests."""
    patience = patience_of(settings)
    # Names leave out credentials: two servers can have the same, and are one to whoever looks at the counts.
    tallies = {masked(url): ServerTally() for url in settings.storage_servers}
    async with open_clients(settings, transport) as clients:
        yield tuple(
            StorageServer(url, clients=clients, patience=patience, tally=tallies[masked(url)])
            for url in settings.storage_servers
        )

"""The origin of a bucket, over httpx: what an object is now (by HEAD), a version of it as a copy, and passages."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import trio

from pkgserver_trio.byte_range import size_by_rest
from pkgserver_trio.errors import AbsentError, BrokenError, DeniedError
from pkgserver_trio.mirror.object_head import ObjectHead
from pkgserver_trio.mirror.object_path import canonical_key
from pkgserver_trio.statistics import ServerTally
from pkgserver_trio.upstream.asking import HEAD_REFUSED, answer_to, failures_of, length_of
from pkgserver_trio.upstream.backoff import Backoff
from pkgserver_trio.upstream.copies import Body, Head
from pkgserver_trio.upstream.http_client import raw_body
from pkgserver_trio.upstream.reception import LEAST_BYTES, Pieces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from pkgserver_trio.settings.buckets import Bucket
    from pkgserver_trio.upstream.asking import Clients, Patience
    from pkgserver_trio.upstream.copies import Rest

_ABSENT = frozenset({404, 410})
#: S3 tells its checksums only to who asks for them.
_WITH_CHECKSUMS = {"x-amz-checksum-mode": "ENABLED"}
#: What a passage tells of itself to a client as well.
PASSED = (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT, httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE)


@dataclass(frozen=True, slots=True)
class Look:
    """What an origin said of an object: its headers, names in lower case, and the head; None: it is as it was."""

    headers: Mapping[str, str]
    head: ObjectHead | None


@dataclass(frozen=True, slots=True)
class PassedAnswer:
    """An answer that is handed on and not kept: its status, headers with names in lower case, size and body."""

    status: int
    headers: Mapping[str, str]
    size_bytes: int | None
    pieces: AsyncIterator[bytes]


class ObjectOrigin:
    """Where a bucket is. `auth` signs what is asked; None: nobody does."""

    def __init__(self, bucket: Bucket, clients: Clients, patience: Patience, auth: httpx.Auth | None) -> None:
        self.bucket = bucket
        self.name = bucket.url
        self.backoff = Backoff()
        self.tally = ServerTally()
        self._clients, self._patience, self._auth = clients, patience, auth

    async def look(self, key: str, known: ObjectHead | None) -> Look:
        """Ask what the object is now, unless it still is the one that is `known`.

        Raises AbsentError, DeniedError, SilentError, BrokenError.
        """
        headers = {} if known is None else _conditions(known)
        patience = self._patience
        with failures_of(self.name), trio.fail_after(patience.connect_seconds + patience.head_seconds):
            asked = trio.current_time()
            try:
                look = await self._look(key, headers)
                if known is not None and look.head is None and not known.is_confirmed_by(look.headers):
                    look = await self._look(key, {})
            finally:
                self.tally.probe_seconds.observe(trio.current_time() - asked)
            return look

    async def _look(self, key: str, headers: Mapping[str, str]) -> Look:
        try:
            return await self._look_by("HEAD", key, headers)
        except _HeadRefusedError:
            return await self._look_by("GET", key, headers)

    async def _look_by(self, method: str, key: str, headers: Mapping[str, str]) -> Look:
        async with self._ask(self._clients.probes, method, key, headers) as response:
            said = _said(response)
            if response.status_code == httpx.codes.NOT_MODIFIED and headers:
                return Look(said, None)
            if response.status_code in HEAD_REFUSED and method == "HEAD":
                raise _HeadRefusedError
            self._check_status(response)
            return Look(said, ObjectHead.of(said, length_of(response)))

    @asynccontextmanager
    async def open_version(
        self, key: str, head: ObjectHead, *, rest: Rest | None, patience: float, least_bytes: int
    ) -> AsyncIterator[Body]:
        """GET the very version that `head` is of, or the rest of it; as `StorageServer.open_body`.

        Raises AbsentError when the object is another by now.
        """
        headers = {} if head.strong_etag is None else {"If-Match": head.strong_etag}
        if rest is not None:
            headers |= rest.headers
        with failures_of(self.name), trio.fail_after(patience * self._patience.head_seconds) as deadline:
            async with self._ask(self._clients.bodies, "GET", key, headers) as response:
                deadline.deadline = float("inf")
                start, size = self._check_version(response, head, rest)
                async with raw_body(response) as raw:
                    pieces = Pieces(raw, patience * self._patience.body_seconds, least_bytes)
                    yield Body(Head(size, head.strong_etag), start, pieces)

    def _check_version(self, response: httpx.Response, head: ObjectHead, rest: Rest | None) -> tuple[int, int | None]:
        """Return the byte that the body begins with, and the size of the whole."""
        overwritten = AbsentError(self.name, "the object was overwritten meanwhile")
        start, size = 0, length_of(response)
        if response.status_code == httpx.codes.PRECONDITION_FAILED:
            raise overwritten
        if rest is not None and response.status_code == httpx.codes.PARTIAL_CONTENT:
            start, size = rest.start, size_by_rest(response.headers.get("Content-Range"), rest.start)
            if size is None:
                raise BrokenError(self.name, f"sent another range than the one from byte {rest.start}")
        else:
            self._check_status(response)
        if not head.is_same_version(ObjectHead.of(_said(response), size)):
            raise overwritten
        return start, head.size_bytes if size is None else size

    @asynccontextmanager
    async def open_passage(self, key: str, headers: Mapping[str, str]) -> AsyncIterator[PassedAnswer]:
        """GET the object, or what `headers` ask for of it, for one client.

        Raises AbsentError, DeniedError, SilentError, BrokenError.
        """
        with failures_of(self.name), trio.fail_after(self._patience.head_seconds) as deadline:
            async with self._ask(self._clients.bodies, "GET", key, headers) as response:
                deadline.deadline = float("inf")
                if response.status_code not in PASSED:
                    self._check_status(response)
                async with raw_body(response) as raw:
                    pieces = Pieces(raw, self._patience.body_seconds, LEAST_BYTES)
                    yield PassedAnswer(response.status_code, _said(response), length_of(response), pieces)

    @asynccontextmanager
    async def _ask(
        self, client: httpx.AsyncClient, method: str, key: str, headers: Mapping[str, str]
    ) -> AsyncIterator[httpx.Response]:
        if self._auth is not None:  # servers differ in what they sign for another spelling
            key = canonical_key(key)
        request = client.build_request(method, f"{self.bucket.url}/{key}", headers={**_WITH_CHECKSUMS, **headers})
        # A signature is for one host, and a session token for nobody else.
        how = {} if self._auth is None else {"auth": self._auth, "follow_redirects": False}
        async with answer_to(request, client, self._clients.anew, **how) as response:
            yield response

    def _check_status(self, response: httpx.Response) -> None:
        reason = f"status {response.status_code}"
        if response.status_code == httpx.codes.FORBIDDEN:
            raise DeniedError(self.name, reason)
        if response.status_code in _ABSENT:
            raise AbsentError(self.name, reason)
        if response.status_code != httpx.codes.OK:
            raise BrokenError(self.name, reason)


class _HeadRefusedError(Exception):
    """The origin answers no HEAD."""


class ObjectCopy:
    """One version of one object, as a `Server` that has this copy and no other, whatever path it is asked for.

    `on_overwritten` is called when the origin does not have it any more.
    """

    def __init__(self, origin: ObjectOrigin, key: str, head: ObjectHead, on_overwritten: Callable[[], None]) -> None:
        self.name, self.backoff, self.tally = origin.name, origin.backoff, origin.tally
        self._origin, self._key, self._head = origin, key, head
        self._on_overwritten = on_overwritten

    async def probe(self, _path: str) -> Head:
        """Tell what a probe of the object has told."""
        await trio.lowlevel.checkpoint()
        return Head(self._head.size_bytes, self._head.strong_etag)

    @asynccontextmanager
    async def open_body(
        self, _path: str, *, rest: Rest | None = None, patience: float = 1, least_bytes: int = LEAST_BYTES
    ) -> AsyncIterator[Body]:
        """GET it, as `StorageServer.open_body`."""
        opened = self._origin.open_version(self._key, self._head, rest=rest, patience=patience, least_bytes=least_bytes)
        try:
            async with opened as body:
                yield body
        except AbsentError:
            self._on_overwritten()
            raise


def _said(response: httpx.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _conditions(known: ObjectHead) -> dict[str, str]:
    """Return the headers that ask for another version than the known one only."""
    if known.etag is not None:
        return {"If-None-Match": known.etag}
    return {} if known.last_modified is None else {"If-Modified-Since": known.last_modified}

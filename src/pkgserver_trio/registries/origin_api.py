"""The API of one git host: each question bounded in time and size, and none while the host says that it limits us.

1. The token is told to this host only: a redirect is followed within it, and to nowhere else.
2. Nothing that the host says after it was told the token is repeated: errors are in our own words.
"""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import httpx
import trio

from pkgserver_trio.printable import printable
from pkgserver_trio.registries.origin_answers import UnexpectedAnswerError, next_query
from pkgserver_trio.registries.rate_limit import is_limited, pause_seconds
from pkgserver_trio.upstream.http_client import MAX_REDIRECTS, raw_body

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pkgserver_trio.registries.origins import Origin

T = TypeVar("T")

MAX_ANSWER_BYTES: Final = 4 << 20  # a hundred commits with their messages and signatures are about one MiB
_LONGEST_ETAG: Final = 256
_LIMITED: Final = "limits how often it is asked"
#: How a host answers who may not see a project: most say that there is none.
_HIDDEN: Final = frozenset({401, 403, 404})


class OriginUnavailableError(Exception):
    """The host gave no answer; it asks not to be asked again before `ask_again_at`, by Trio's clock."""

    def __init__(self, reason: str, ask_again_at: float = -inf) -> None:
        super().__init__(reason)
        self.reason = reason
        self.ask_again_at = ask_again_at


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What the body says, its validator, and the path of the next page, if there is one."""

    value: T
    etag: str | None
    next_path: str | None


class OriginApi:
    """The API of `origin`'s host; a question takes at most `seconds`, redirects included."""

    def __init__(self, origin: Origin, client: httpx.AsyncClient, *, token: str | None, seconds: float) -> None:
        self._url = origin.api
        self._client = client
        self._seconds = seconds
        self._headers = {"Accept": "application/json"}
        self._has_token = token is not None
        if token is not None:
            self._headers["Authorization"] = origin.forge.authorization(token)
        self._limited_until = -inf

    async def fetch(self, path: str, parse: Callable[[bytes], T], *, known: Answer[T] | None = None) -> Answer[T]:
        """GET `path` and read the body by `parse`; `known` is the last answer, returned where it still holds.

        Raises OriginUnavailableError, without asking while the host limits us, and UnexpectedAnswerError.
        """
        if trio.current_time() < self._limited_until:
            raise OriginUnavailableError(_LIMITED, self._limited_until)
        try:
            with trio.fail_after(self._seconds):
                return await self._ask(path, parse, known)
        except trio.TooSlowError:
            raise OriginUnavailableError(f"did not answer within {self._seconds:g} seconds") from None
        except httpx.ConnectError as error:  # nothing was told yet, nor said
            where = httpx.URL(self._url).host
            raise OriginUnavailableError(f"cannot be reached at {where}: {printable(str(error), 200)}") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError) as error:
            raise OriginUnavailableError(f"gave no whole answer: {type(error).__name__}") from None

    async def _ask(self, path: str, parse: Callable[[bytes], T], known: Answer[T] | None) -> Answer[T]:
        validator = {"If-None-Match": known.etag} if known and known.etag else {}
        async with self._open(path, {**self._headers, **validator}) as response:
            self._heed_limits(response)
            if known and response.status_code == httpx.codes.NOT_MODIFIED:
                return known
            self._check_status(response.status_code)
            query = next_query(response.headers.get("Link"))
            next_path = None if query is None else f"{path.partition('?')[0]}?{query}"
            return Answer(parse(await _read(response)), _etag(response), next_path)

    @asynccontextmanager
    async def _open(self, path: str, headers: dict[str, str]) -> AsyncIterator[httpx.Response]:
        request = self._client.build_request("GET", self._url + path, headers=headers)
        for _ in range(MAX_REDIRECTS + 1):
            async with aclosing(await self._client.send(request, stream=True, follow_redirects=False)) as response:
                if response.next_request is None:
                    yield response
                    return
                if _place(response.next_request.url) != _place(request.url):
                    raise UnexpectedAnswerError("redirects to another host")
                request = response.next_request
        raise UnexpectedAnswerError(f"redirects more than {MAX_REDIRECTS} times")

    def _heed_limits(self, response: httpx.Response) -> None:
        pause = pause_seconds(response.status_code, response.headers)
        if pause > 0:
            self._limited_until = trio.current_time() + pause
        if is_limited(response.status_code, response.headers):
            raise OriginUnavailableError(_LIMITED, self._limited_until)

    def _check_status(self, status: int) -> None:
        if status in _HIDDEN:
            token = "its token may lack the right to read it" if self._has_token else "a token may be missing"
            raise UnexpectedAnswerError(f"answers with status {status}: the project does not exist, or {token}")
        if status != httpx.codes.OK:
            raise UnexpectedAnswerError(f"answers with status {status}")


async def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    async with raw_body(response) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) > MAX_ANSWER_BYTES:
                raise UnexpectedAnswerError(f"answers with more than {MAX_ANSWER_BYTES} bytes")
    return bytes(body)


def _etag(response: httpx.Response) -> str | None:
    etag = response.headers.get("ETag", "")
    return etag if etag.isascii() and etag.isprintable() and 0 < len(etag) <= _LONGEST_ETAG else None


def _place(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port

"""Resources over HTTP: GET, HEAD, Range and conditions, alike for what is cached and for what is still arriving."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from quart_trio.wrappers import TrioResponse

from pkgserver_trio.byte_range import ByteRange, UnsatisfiableRangeError, parse_range
from pkgserver_trio.downloads.flight import FlightReader
from pkgserver_trio.errors import BrokenOffError, NotFoundError, ResourceUnavailableError
from pkgserver_trio.statistics import Outcome
from pkgserver_trio.validators import entity_tag, http_date, is_not_modified, range_applies
from pkgserver_trio.web import answers
from pkgserver_trio.web.bodies import Span

if TYPE_CHECKING:
    from pkgserver_trio.library import Library
    from pkgserver_trio.resource import Resource
    from pkgserver_trio.storage.open_file import StoredFile
    from pkgserver_trio.web.request import Request

_IMMUTABLE = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Plan:
    """The head of an answer, and which bytes follow it (None: no body)."""

    status: HTTPStatus
    headers: dict[str, str]
    span: tuple[int, int | None] | None


def plan_answer(request: Request, size: int | None, mtime_seconds: int | None, *, miss: bool) -> Plan:
    """Decide how to answer for a file of `size` bytes (None: not known yet) with this modification time."""
    headers = {"Content-Type": "application/x-gzip", "Accept-Ranges": "bytes", "Cache-Control": _IMMUTABLE}
    if miss:
        headers["X-Cache-Miss"] = "miss"
    if mtime_seconds is None:
        return whole(headers, size)
    headers["Last-Modified"] = http_date(mtime_seconds)
    etag = None if size is None else entity_tag(mtime_seconds, size)
    if etag is not None:
        headers["ETag"] = etag
    return decide(request, headers, size, etag=etag, mtime_seconds=mtime_seconds)


def decide(
    request: Request, headers: dict[str, str], size: int | None, *, etag: str | None, mtime_seconds: int
) -> Plan:
    """Decide by the conditions and the range of a request; `headers` are those of the whole, and may be changed."""
    if is_not_modified(
        etag=etag,
        mtime_seconds=mtime_seconds,
        if_none_match=request.headers.get("If-None-Match"),
        if_modified_since=request.headers.get("If-Modified-Since"),
    ):
        del headers["Content-Type"], headers["Accept-Ranges"]
        return Plan(HTTPStatus.NOT_MODIFIED, headers, None)
    if size is None or not range_applies(request.headers.get("If-Range"), etag=etag, mtime_seconds=mtime_seconds):
        return whole(headers, size)
    return _ranged(headers, size, request.headers.get("Range"))


def whole(headers: dict[str, str], size: int | None) -> Plan:
    """Answer with everything."""
    if size is not None:
        headers["Content-Length"] = str(size)
    return Plan(HTTPStatus.OK, headers, (0, size))


def _ranged(headers: dict[str, str], size: int, text: str | None) -> Plan:
    try:
        wanted: ByteRange | None = parse_range(text, size)
    except UnsatisfiableRangeError:
        refused = {"Content-Range": f"bytes */{size}", "Content-Length": "0"}
        return Plan(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, refused, None)
    if wanted is None:
        return whole(headers, size)
    del headers["Accept-Ranges"]  # as nginx, which answers for this server
    headers |= {"Content-Range": wanted.content_range(size), "Content-Length": str(len(wanted))}
    return Plan(HTTPStatus.PARTIAL_CONTENT, headers, (wanted.start, wanted.stop))


async def get_resource(library: Library, resource: Resource, request: Request) -> TrioResponse:
    """Answer GET, and count it."""
    request.line.cache = Outcome.MISS.value
    try:
        answer, outcome = await _get(library, resource, request)
    except ResourceUnavailableError as error:
        answer = answers.unavailable(error)
        outcome = Outcome.ABSENT if isinstance(error, NotFoundError) else Outcome.FAILED
    library.statistics.count_answer(resource, outcome)
    return answer


async def _get(library: Library, resource: Resource, request: Request) -> tuple[TrioResponse, Outcome]:
    """Answer GET. The head is sent with the first byte; until then another storage server can still be tried.

    Raises ResourceUnavailableError.
    """
    outcome: Outcome | None = None
    while True:
        source = await library.obtain(resource, peer=request.peer)
        outcome = outcome or outcome_of(source)  # of the first look: a second one may join the flight that this began
        request.line.cache = outcome.value
        request.line.flight = source.flight if isinstance(source, FlightReader) else None
        request.belongings.callback(source.close)
        plan = _plan(request, source)
        if isinstance(source, FlightReader) and needs_the_whole(request, source, plan):
            source = await source.whole()
            plan = _plan(request, source)
        if plan.span is None:
            return answers.bodiless(plan.status, plan.headers), outcome
        body = Span(source, *plan.span, sent=library.statistics.count_transmitted)
        try:
            await body.prefetch()
        except BrokenOffError:
            if isinstance(source, FlightReader):
                source.flight.raise_if_failed()
            continue
        return TrioResponse(body, plan.status, plan.headers), outcome


def outcome_of(source: StoredFile | FlightReader) -> Outcome:
    """Return how a source came about, as it is counted."""
    if not isinstance(source, FlightReader):
        return Outcome.HIT
    return Outcome.COALESCED if source.coalesced else Outcome.MISS


async def head_resource(library: Library, resource: Resource, request: Request) -> TrioResponse:
    """Answer HEAD: what GET would say, as far as that is known without a download."""
    library.statistics.count_head(resource)
    request.line.cache = Outcome.MISS.value
    try:
        seen = await library.sight(resource, peer=request.peer)
    except ResourceUnavailableError as error:
        return answers.unavailable(error)
    if seen.cached:
        request.line.cache = Outcome.HIT.value
    plan = plan_answer(request, seen.size_bytes, seen.mtime_seconds, miss=not seen.cached)
    return answers.bodiless(plan.status, plan.headers)


def _plan(request: Request, source: StoredFile | FlightReader) -> Plan:
    miss = isinstance(source, FlightReader)
    return plan_answer(request, source.size_bytes, source.mtime_seconds, miss=miss)


def needs_the_whole(request: Request, reader: FlightReader, plan: Plan) -> bool:
    """Tell whether an answer has to wait until all is verified.

    One without a body says all it says at once, so it must not rest on a size that may be wrong. A range needs the
    size, and HTTP/1.0 has no chunked coding.
    """
    if plan.span is None or reader.size_bytes == 0:
        return True
    return reader.size_bytes is None and (request.http_version < "1.1" or "Range" in request.headers)

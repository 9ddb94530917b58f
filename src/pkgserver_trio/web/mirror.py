"""Objects of buckets over HTTP: in their origin's words, with the conditions and ranges of everything else."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from quart_trio.wrappers import TrioResponse

from pkgserver_trio.byte_range import is_content_range
from pkgserver_trio.downloads.flight import FlightReader
from pkgserver_trio.errors import BrokenOffError, ForbiddenError, NotFoundError, ResourceUnavailableError
from pkgserver_trio.mirror.object_head import told_headers
from pkgserver_trio.mirror.object_path import HostileKeyError, ObjectName, check_key, split_object_path
from pkgserver_trio.mirror.passage import Passage
from pkgserver_trio.mirror.versions import Word
from pkgserver_trio.statistics import Outcome
from pkgserver_trio.validators import parse_http_date
from pkgserver_trio.web import answers
from pkgserver_trio.web.bodies import Span
from pkgserver_trio.web.resources import Plan, decide, needs_the_whole, outcome_of
from pkgserver_trio.web.routes import Route, at_once, readable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pkgserver_trio.mirror.mirror import Mirror, Served
    from pkgserver_trio.mirror.object_head import ObjectHead
    from pkgserver_trio.statistics import Statistics
    from pkgserver_trio.web.request import Request
    from pkgserver_trio.web.routes import Answer

#: What a client sends for a part; all of it is the origin's to understand where the object is not held.
_PARTIAL = ("Range", "If-Range")
#: No time of a file: what has no Last-Modified matches no date.
_NEVER = -1
_DEFAULT_TYPE = "binary/octet-stream"  # S3's own
_LONGEST_RANGE = 256


class MirrorPages:
    """What is below `/mirror/`: nothing where there is no mirror."""

    def __init__(self, mirror: Mirror | None, statistics: Statistics) -> None:
        self._mirror = mirror
        self._statistics = statistics

    def find(self, path: str) -> Answer | None:
        """Return what answers at the raw `path`, if it is in one of the buckets."""
        told = split_object_path(path)
        if told is None or self._mirror is None or told[0] not in self._mirror.origins:
            return None
        try:
            check_key(told[1])
        except HostileKeyError as error:
            refusal = f"{error}\n"
            return readable(at_once(lambda _: answers.text(refusal, HTTPStatus.BAD_REQUEST)))
        name = ObjectName(*told)
        return Route({"GET": partial(self._get, self._mirror, name), "HEAD": partial(self._head, self._mirror, name)})

    async def _get(self, mirror: Mirror, name: ObjectName, request: Request) -> TrioResponse:
        request.line.cache = Outcome.MISS.value
        try:
            answer, outcome = await self._obtain(mirror, name, request)
        except ResourceUnavailableError as error:
            answer = answers.unavailable(error)
            outcome = Outcome.ABSENT if isinstance(error, NotFoundError | ForbiddenError) else Outcome.FAILED
        self._statistics.count_mirrored(outcome)
        return answer

    async def _obtain(self, mirror: Mirror, name: ObjectName, request: Request) -> tuple[TrioResponse, Outcome]:
        """Answer GET; before the first byte another version may still come. Raises ResourceUnavailableError."""
        if (told := _told_at_once(mirror, name, request)) is not None:
            return told, Outcome.HIT
        while True:
            served = await mirror.obtain(name, _asked(request), peer=request.peer)
            source = served.source
            _note(request, served)
            if isinstance(source, Passage):
                return await self._hand_on(source), Outcome.MISS
            outcome = outcome_of(source)
            plan = _plan(request, served, source.size_bytes)
            if isinstance(source, FlightReader) and needs_the_whole(request, source, plan):
                source = await source.whole()
                plan = _plan(request, served, source.size_bytes)
            if plan.span is None:
                return answers.bodiless(plan.status, plan.headers), outcome
            body = Span(source, *plan.span, sent=self._statistics.count_transmitted)
            try:
                await body.prefetch()
            except (BrokenOffError, NotFoundError):
                if isinstance(source, FlightReader):
                    mirror.note_lost(name, source)
                continue
            return TrioResponse(body, plan.status, plan.headers), outcome

    async def _hand_on(self, passage: Passage) -> TrioResponse:
        """Answer with what the origin says, for this client alone."""
        headers = {_titled(name): value for name, value in told_headers(passage.headers.items()).items()}
        headers |= {"Accept-Ranges": "bytes", "X-Cache": Word.BYPASS}
        if is_content_range(part := passage.headers.get("content-range", "")):
            headers["Content-Range"] = part
        if passage.size_bytes is not None:
            headers["Content-Length"] = str(passage.size_bytes)
        body = Span(passage, 0, passage.size_bytes, sent=self._statistics.count_transmitted)
        try:
            await body.prefetch()
        except BrokenOffError as error:
            return answers.try_later(str(error), HTTPStatus.BAD_GATEWAY)
        return TrioResponse(body, passage.status, headers)

    async def _head(self, mirror: Mirror, name: ObjectName, request: Request) -> TrioResponse:
        self._statistics.count_mirrored_head()
        request.line.cache = Outcome.MISS.value
        try:
            version = await mirror.sight(name, peer=request.peer)
        except ResourceUnavailableError as error:
            return answers.unavailable(error)
        request.line.cache = version.word.value.lower()
        head = version.record.head
        plan = _decide(request, head, head.size_bytes, version.word)
        return answers.bodiless(plan.status, plan.headers)


def _told_at_once(mirror: Mirror, name: ObjectName, request: Request) -> TrioResponse | None:
    """Return the 304 that what is known suffices for: bytes that nobody gets need not be fetched."""
    head = mirror.fresh_head(name)
    if head is None:
        return None
    plan = _decide(request, head, head.size_bytes, Word.HIT)
    if plan.status is not HTTPStatus.NOT_MODIFIED:
        return None
    request.line.cache = Outcome.HIT.value
    return answers.bodiless(plan.status, plan.headers)


def _note(request: Request, served: Served) -> None:
    request.belongings.callback(served.source.close)
    request.line.cache = served.word.value.lower()
    request.line.flight = served.source.flight if isinstance(served.source, FlightReader) else None


def _asked(request: Request) -> Mapping[str, str]:
    """Return what asks for a part, as it was sent; nothing where no sane range is asked for."""
    text = request.headers.get("Range", "")
    if not text.startswith("bytes=") or len(text) > _LONGEST_RANGE or "," in text:
        return {}
    return {name: request.headers[name] for name in _PARTIAL if name in request.headers}


def _plan(request: Request, served: Served, size: int | None) -> Plan:
    assert served.head is not None  # noqa: S101 # only a passage has none
    return _decide(request, served.head, size, served.word)


def _decide(request: Request, head: ObjectHead, size: int | None, word: Word) -> Plan:
    headers = {"Content-Type": _DEFAULT_TYPE, "Accept-Ranges": "bytes"}
    headers |= {_titled(name): value for name, value in head.told.items()}
    headers["X-Cache"] = word
    changed = parse_http_date(head.last_modified or "")
    return decide(request, headers, size, etag=head.etag, mtime_seconds=_NEVER if changed is None else changed)


def _titled(name: str) -> str:
    """Write a header's name as origins do."""
    return {"etag": "ETag"}.get(name) or (name if name.startswith("x-amz-") else name.title())

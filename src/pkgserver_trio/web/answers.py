"""Answers that need no resource: texts, JSON, and what an error looks like to a client."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from quart_trio.wrappers import TrioResponse

from pkgserver_trio import errors
from pkgserver_trio.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

_TEXT = "text/plain; charset=utf-8"
#: When to come back, in seconds: soon, since most causes pass.
_RETRY_SECONDS = 5
_STATUSES: Mapping[type[errors.ResourceUnavailableError], HTTPStatus] = {
    errors.NotFoundError: HTTPStatus.NOT_FOUND,
    errors.ForbiddenError: HTTPStatus.FORBIDDEN,
    errors.UpstreamSilentError: HTTPStatus.GATEWAY_TIMEOUT,
    errors.UpstreamFailedError: HTTPStatus.BAD_GATEWAY,
    errors.StorageFullError: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.StorageFailedError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.QueueFullError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.PeerOverBoundError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.ShuttingDownError: HTTPStatus.SERVICE_UNAVAILABLE,
}


def text(body: str, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> TrioResponse:
    """Answer with one text."""
    return TrioResponse(body, status, {"Content-Type": _TEXT, **(headers or {})})


def json_text(value: object, status: int = HTTPStatus.OK) -> TrioResponse:
    """Answer with a JSON document that nobody may keep."""
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    return TrioResponse(json.dumps(value) + "\n", status, headers)


def html(body: str) -> TrioResponse:
    """Answer with a page."""
    return TrioResponse(body, HTTPStatus.OK, {"Content-Type": "text/html; charset=utf-8"})


def bodiless(status: int, headers: Mapping[str, str]) -> TrioResponse:
    """Answer with exactly these headers and no body: HEAD and 304 speak of a body that they do not send."""
    response = TrioResponse(b"", status)
    response.headers.clear()  # Quart's Content-Length is that of the body it sees
    response.headers.update(headers)
    return response


def not_found() -> TrioResponse:
    """There is nothing at this path."""
    return text("not found\n", HTTPStatus.NOT_FOUND)


def not_allowed(allowed: str) -> TrioResponse:
    """Only the methods `allowed` make sense here (RFC 9110, 15.5.6)."""
    return text("method not allowed\n", HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": allowed})


def try_later(reason: str, status: HTTPStatus) -> TrioResponse:
    """Say what happened, and that it may pass."""
    return text(f"{reason}\n", status, {"Retry-After": str(_RETRY_SECONDS), "Cache-Control": "no-store"})


def unavailable(error: errors.ResourceUnavailableError) -> TrioResponse:
    """Say why a resource cannot be served, in one line: storage servers had their word in it."""
    status = _STATUSES[type(error)]
    reason = printable(str(error))
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN}:
        return text(f"{reason}\n", status, {"Cache-Control": "no-store"})
    return try_later(reason, status)

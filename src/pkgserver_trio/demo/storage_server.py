"""A storage server in one function: an ASGI application that offers a mapping of paths to bodies."""

from __future__ import annotations

import hashlib
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, HTTPScope, Scope


def storage_server(files: Mapping[str, bytes]) -> ASGIFramework:
    """Return an ASGI application that answers GET and HEAD of each path in ``files``, with a strong ETag (RFC 9110).

    ``files`` is read at every request: who replaces its content publishes at once. A scope that is not HTTP raises
    NotImplementedError, as the ASGI specification asks of an application without a lifespan.
    """

    async def serve(scope: Scope, _receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        status, headers, body = _answer(files, scope)
        if status != HTTPStatus.NOT_MODIFIED:  # whose length would be that of the body it does not send
            headers = [*headers, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        sent = b"" if scope["method"] == "HEAD" else body
        await send({"type": "http.response.body", "body": sent, "more_body": False})

    return serve


def _answer(files: Mapping[str, bytes], scope: HTTPScope) -> tuple[HTTPStatus, list[tuple[bytes, bytes]], bytes]:
    if scope["method"] not in {"GET", "HEAD"}:
        return HTTPStatus.METHOD_NOT_ALLOWED, [(b"allow", b"GET, HEAD")], b""
    body = files.get(scope["path"])
    if body is None:
        return HTTPStatus.NOT_FOUND, [], b""
    etag = b'"%s"' % hashlib.sha256(body).hexdigest().encode()
    known = b",".join(value for name, value in scope["headers"] if name == b"if-none-match")
    headers = [(b"etag", etag)]
    if {etag, b"*"} & {tag.strip().removeprefix(b"W/") for tag in known.split(b",")}:
        return HTTPStatus.NOT_MODIFIED, headers, b""
    plain = scope["path"].startswith("/registries")
    kind = b"text/plain" if plain else b"application/x-gzip"
    return HTTPStatus.OK, [*headers, (b"content-type", kind)], body

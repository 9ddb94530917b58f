"""What a request may be, and the answers to those that are not: one line of text each, then the end. Pure."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    Headers = Sequence[tuple[bytes, bytes]]

#: In bytes: nginx's own limits, on which a client can rely.
MAX_LINE_BYTES: Final = 8 * 1024
MAX_HEAD_BYTES: Final = 32 * 1024
#: No request here needs a body, but some clients send a small one all the same.
MAX_BODY_BYTES: Final = 1024

_REFUSALS: Final[Mapping[int, tuple[str, str]]] = MappingProxyType(
    {
        400: ("Bad Request", "the request is malformed"),
        408: ("Request Timeout", "the request took too long to arrive"),
        413: ("Content Too Large", f"a request may have a body of {MAX_BODY_BYTES} bytes"),
        414: ("URI Too Long", f"a request line may have {MAX_LINE_BYTES} bytes"),
        431: ("Request Header Fields Too Large", f"the head of a request may have {MAX_HEAD_BYTES} bytes"),
        501: ("Not Implemented", "the method or the transfer coding of the request is not known here"),
        503: ("Service Unavailable", "too many connections"),
        505: ("HTTP Version Not Supported", "HTTP/1.0 and HTTP/1.1 are spoken here"),
    }
)
#: What tells a client to come back, when it is not its request that is wrong.
_LATER: Final = ((b"retry-after", b"5"), (b"cache-control", b"no-store"))


def refusal_of(method: bytes, target: bytes, version: bytes, headers: Headers) -> int | None:
    """Return the status that refuses a request with this head, None for one that is welcome.

    `headers` have lower-case names.
    """
    line_bytes = len(method) + len(target) + len("  HTTP/1.1\r\n")
    if not version.startswith(b"1."):
        return 505
    if method != method.upper():
        return 501  # methods have a case, but not every layer here knows
    if line_bytes > MAX_LINE_BYTES:
        return 414
    if line_bytes + sum(len(name) + len(value) + len(": \r\n") for name, value in headers) > MAX_HEAD_BYTES:
        return 431
    return _refusal_of_body(version, dict(headers))


def _refusal_of_body(version: bytes, headers: Mapping[bytes, bytes]) -> int | None:
    length = headers.get(b"content-length")
    if b"transfer-encoding" in headers:
        # Two ways to tell where it ends, or one that HTTP/1.0 does not know: a proxy may have read another request.
        if length is not None or version == b"1.0":
            return 400
    elif length is None or length == b"0":
        return None
    elif len(length) > len(str(MAX_BODY_BYTES)) or int(length) > MAX_BODY_BYTES:
        return 413
    return 413 if b"expect" in headers else None  # who asks whether to send a body need not


def refusal_of_unfinished(head: bytes) -> int:
    """Return the status that refuses a head which is too long already."""
    return 431 if b"\n" in head[:MAX_LINE_BYTES] else 414


def write_refusal(status: int, common: Collection[tuple[bytes, bytes]], *, with_body: bool = True) -> bytes:
    """Return the whole answer, the last on its connection; `common` are the headers that all answers have."""
    phrase, text = _REFUSALS.get(status, _REFUSALS[400])
    body = f"{text}\n".encode()
    fields = [
        *common,
        *(_LATER if status == 503 else ()),  # noqa: PLR2004 # as the table above
        (b"connection", b"close"),
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
    ]
    number = status if status in _REFUSALS else 400
    head = b"".join(b"%b: %b\r\n" % field for field in fields)
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (number, phrase.encode(), head, body if with_body else b"")

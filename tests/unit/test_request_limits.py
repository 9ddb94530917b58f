from __future__ import annotations

import h11
import pytest

from pkgserver_trio.web.request_limits import (
    MAX_HEAD_BYTES,
    MAX_LINE_BYTES,
    refusal_of,
    refusal_of_unfinished,
    write_refusal,
)

HOST = (b"host", b"pkg.invalid")
CHUNKED = (b"transfer-encoding", b"chunked")


def length(text: bytes) -> tuple[bytes, bytes]:
    return b"content-length", text


@pytest.mark.parametrize(
    ("version", "headers", "status"),
    [
        (b"1.1", [], None),
        (b"1.0", [], None),
        (b"1.1", [length(b"0")], None),
        (b"1.1", [length(b"1024")], None),
        (b"1.1", [length(b"1025")], 413),
        (b"1.1", [length(b"9" * 5000)], 413),
        (b"1.1", [CHUNKED], None),
        (b"1.1", [CHUNKED, length(b"5")], 400),
        (b"1.0", [CHUNKED], 400),
        (b"1.1", [(b"expect", b"100-continue")], None),
        (b"1.1", [(b"expect", b"100-continue"), length(b"5")], 413),
        (b"1.1", [(b"expect", b"100-continue"), CHUNKED], 413),
        (b"2.0", [], 505),
        (b"0.9", [], 505),
    ],
)
def test_a_request_is_refused_by_what_its_head_says(
    version: bytes, headers: list[tuple[bytes, bytes]], status: int | None
) -> None:
    assert refusal_of(b"GET", b"/", version, [HOST, *headers]) == status


def test_a_line_and_a_head_may_be_as_long_as_they_may() -> None:
    longest = MAX_LINE_BYTES - len("GET  HTTP/1.1\r\n")
    assert refusal_of(b"GET", b"/" * longest, b"1.1", [HOST]) is None
    assert refusal_of(b"GET", b"/" * (longest + 1), b"1.1", [HOST]) == 414
    rest = MAX_HEAD_BYTES - len("GET / HTTP/1.1\r\n") - len("host: pkg.invalid\r\n") - len("a: \r\n")
    assert refusal_of(b"GET", b"/", b"1.1", [HOST, (b"a", b"x" * rest)]) is None
    assert refusal_of(b"GET", b"/", b"1.1", [HOST, (b"a", b"x" * (rest + 1))]) == 431


def test_methods_have_a_case() -> None:
    assert refusal_of(b"head", b"/", b"1.1", [HOST]) == 501


def test_an_unfinished_head_is_refused_for_what_is_too_long_in_it() -> None:
    assert refusal_of_unfinished(b"G" * (MAX_LINE_BYTES + 1)) == 414
    assert refusal_of_unfinished(b"GET / HTTP/1.1\r\n" + b"a" * MAX_HEAD_BYTES) == 431


@pytest.mark.parametrize("status", [400, 408, 413, 414, 431, 501, 503, 505, 418])
def test_a_refusal_is_one_line_and_the_last_answer(status: int) -> None:
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "pkg.invalid")]))
    client.send(h11.EndOfMessage())
    client.receive_data(write_refusal(status, [(b"date", b"today")]))
    head, body = client.next_event(), client.next_event()
    assert isinstance(head, h11.Response)
    assert isinstance(body, h11.Data)
    assert head.status_code == (400 if status == 418 else status)
    assert body.data.count(b"\n") == 1
    assert body.data.endswith(b"\n")
    assert dict(head.headers)[b"connection"] == b"close"
    assert isinstance(client.next_event(), h11.EndOfMessage)
    assert (b"retry-after" in dict(head.headers)) == (status == 503)

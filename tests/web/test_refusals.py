"""Requests that are too long, too slow, or none: refused with one line, and then the connection is at its end."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import pytest
import trio
from tests.web.raw import connected, unread_by
from tests.web.site import PATIENCE_SECONDS, until

if TYPE_CHECKING:
    from tests.web.raw import Head, RawClient
    from tests.web.site import Serve, Site

HEAD = b"GET /robots.txt HTTP/1.1\r\nHost: pkg.invalid\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
#: A limit that a test which passes never reaches.
NEVER = "600"


async def refusal(raw: RawClient) -> Head:
    """Return the head of an answer that is one line, and after which nothing comes but the end."""
    with trio.fail_after(PATIENCE_SECONDS):
        head = await raw.head()
        body = await raw.rest()
    assert body.count(b"\n") == 1
    assert body.endswith(b"\n")
    assert len(body) == int(head.headers["content-length"])
    assert head.headers["connection"] == "close"
    assert "date" in head.headers
    return head


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /?" + b"a" * 40_000, 414),
        (b"A" * 40_000, 414),
        (HEAD + b"X: " + b"x" * 40_000 + b"\r\n\r\n", 431),
        (HEAD + b"X: " + b"x" * 40_000, 431),
        (HEAD + b"X: x\r\n" * 8000 + b"\r\n", 431),
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # a TLS handshake
        (b"GET /\r\n\r\n", 400),  # HTTP/0.9
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (HEAD + b"X: a\0b\r\n\r\n", 400),
        (HEAD + b"X : a\r\n\r\n", 400),
        (b"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/0.9\r\nHost: x\r\n\r\n", 505),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (HEAD + b"Content-Length: 1025\r\n\r\n", 413),
        (HEAD + b"Content-Length: 99999999999999999999\r\n\r\n", 413),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"head / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 501),
        (CHUNKED + b"401\r\n" + b"x" * 0x401 + b"\r\n0\r\n\r\n", 413),
        (CHUNKED + b"1\r\nx\r\n" * 1025, 413),
        (CHUNKED + b"nonsense\r\n", 400),
        (CHUNKED + b"1;" + b"x" * 40_000, 431),
        (HEAD + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", 413),
        (HEAD + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n", 413),
    ],
)
async def test_what_is_no_request_of_ours_is_refused_with_one_line(serve: Serve, sent: bytes, status: int) -> None:
    site = await serve(PKGSERVER_REQUEST_HEAD_SECONDS=NEVER)
    async with connected(site.port) as raw:
        await raw.stream.send_all(sent)
        assert (await refusal(raw)).status == status
    await until(lambda: not site.running.server.connections)


async def test_a_refused_head_request_gets_no_body(serve: Serve) -> None:
    site = await serve(PKGSERVER_REQUEST_HEAD_SECONDS=NEVER)
    async with connected(site.port) as raw:
        await raw.ask("/", "Content-Length: 5000", method="HEAD")
        assert (await raw.head()).status == 413
        assert await raw.rest() == b""


async def test_a_refusal_arrives_though_the_client_is_still_sending(serve: Serve) -> None:
    site = await serve(PKGSERVER_REQUEST_HEAD_SECONDS=NEVER)
    async with connected(site.port) as raw:
        await raw.stream.send_all(HEAD + b"Content-Length: 3000000\r\n\r\n" + b"x" * 3_000_000)
        assert (await refusal(raw)).status == 413


async def test_a_client_that_never_stops_sending_is_cut_off(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pkgserver_trio.web.client_connection._LINGER_SECONDS", 0.1)
    site = await serve()

    async def send_for_ever(raw: RawClient) -> None:
        while True:
            await raw.stream.send_all(b"x" * 65536)

    async with connected(site.port) as raw:
        await raw.stream.send_all(CHUNKED + b"ffffff\r\n")
        with trio.fail_after(PATIENCE_SECONDS), pytest.raises(trio.BrokenResourceError):
            await send_for_ever(raw)


@pytest.mark.parametrize(
    "sent", [b"G", HEAD, CHUNKED, HEAD + b"Content-Length: 5\r\n\r\n1234", b"GET / HTTP/1.1\r\nHost: x"]
)
async def test_a_request_that_does_not_become_whole_in_time_is_refused(serve: Serve, sent: bytes) -> None:
    site = await serve(PKGSERVER_REQUEST_HEAD_SECONDS="0.1")
    async with connected(site.port) as raw:
        await raw.stream.send_all(sent)
        assert (await refusal(raw)).status == 408


async def test_the_time_of_a_request_begins_with_its_first_byte_and_no_other_prolongs_it(serve: Serve) -> None:
    site = await serve(PKGSERVER_REQUEST_HEAD_SECONDS=NEVER)
    async with connected(site.port) as raw:
        await until(lambda: len(site.running.server.connections) == 1)
        (connection,) = site.running.server.connections
        for _ in range(2):
            await until(lambda: connection._reading.deadline < inf)
            idle = connection._reading.deadline
            await raw.stream.send_all(HEAD[:20])
            await until(lambda: connection._receiving)
            begun = connection._reading.deadline
            assert begun > idle
            await raw.stream.send_all(HEAD[20:])
            await until(lambda: unread_by(connection) == HEAD)
            assert connection._reading.deadline == begun
            await raw.stream.send_all(b"\r\n")
            await raw.exactly(int((await raw.head()).headers["content-length"]))
            assert not connection._receiving


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "body", [b"Content-Length: 5\r\n\r\nGET /", b"Transfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n0\r\n\r\n"]
)
async def test_a_small_body_is_taken_and_is_no_request(site: Site, method: str, body: bytes) -> None:
    async with connected(site.port) as raw:
        for _ in range(2):
            await raw.stream.send_all(HEAD.replace(b"GET", method.encode()) + body)
            head = await raw.head()
            assert head.status == 200
            await raw.exactly(int(head.headers["content-length"]) if method == "GET" else 0)


async def test_a_client_that_asks_before_it_sends_nothing_is_answered(site: Site) -> None:
    async with connected(site.port) as raw:
        await raw.ask("/robots.txt", "Expect: 100-continue")
        assert (await raw.head()).status == 200


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "POST", "DELETE", "OPTIONS", "X" * 100])
async def test_other_methods_are_not_allowed_and_end_nothing(site: Site, method: str) -> None:
    async with connected(site.port) as raw:
        for _ in range(2):
            await raw.ask("/robots.txt", "Secret: 1", method=method)
            head = await raw.head()
            assert (head.status, head.headers["allow"]) == (405, "GET, HEAD")
            assert b"Secret" not in await raw.exactly(int(head.headers["content-length"]))


@pytest.mark.parametrize("target", ["other.invalid:443", "*", "http://other.invalid/nowhere"])
@pytest.mark.parametrize("method", ["CONNECT", "OPTIONS", "GET"])
async def test_nothing_is_fetched_or_tunnelled_for_anybody(site: Site, target: str, method: str) -> None:
    async with connected(site.port) as raw:
        await raw.ask(target, method=method)
        assert (await raw.head()).status == 404
    assert "other.invalid" not in str(site.upstream.seen)

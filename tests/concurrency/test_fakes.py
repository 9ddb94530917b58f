"""Each behaviour as httpx meets it; what a socket and memory share is shown on both."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
from tests.fakes import (
    BEFORE_HEAD,
    MISSING,
    Behaviour,
    FakeTransport,
    FakeUpstream,
    Pieces,
    Request,
    Script,
    good,
    redirect,
    refusing_url,
    strong_etag,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


BODY = b"".join(number.to_bytes(2) for number in range(512))  # no two slices alike
TIMEOUT = httpx.Timeout(5)


@asynccontextmanager
async def over_a_socket(script: Script) -> AsyncIterator[tuple[FakeUpstream, httpx.AsyncClient]]:
    async with FakeUpstream(script=script) as fake, httpx.AsyncClient(base_url=fake.url, timeout=TIMEOUT) as client:
        yield fake, client


@asynccontextmanager
async def in_memory(script: Script) -> AsyncIterator[tuple[FakeTransport, httpx.AsyncClient]]:
    fake = FakeTransport(script=script)
    async with httpx.AsyncClient(transport=fake, base_url="http://fake.invalid", timeout=TIMEOUT) as client:
        yield fake, client


both = pytest.mark.parametrize("played", [over_a_socket, in_memory])
Played = Callable[[Script], AbstractAsyncContextManager[tuple[FakeUpstream | FakeTransport, httpx.AsyncClient]]]


@both
@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(body=BODY),
        Behaviour(body=BODY, declared_length=None),
        Behaviour(body=BODY, pieces=Pieces(size=100)),
        Behaviour(body=BODY, declared_length=None, pieces=Pieces(size=100, pause=0.001)),
        Behaviour(body=BODY, garbage=b"HTTP/1.1 500 \r\n\r\n"),
        Behaviour(body=BODY, close_at=len(BODY)),
        Behaviour(body=BODY + b"too much", declared_length=len(BODY)),
    ],
)
async def test_a_whole_body_arrives_whole_however_it_is_sent(played: Played, behaviour: Behaviour) -> None:
    async with played(lambda _: behaviour) as (_, client):
        for _ in range(2):  # the second time on the same connection, or rightly on another
            assert (await client.get("/x")).content == BODY


@both
@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (Behaviour(body=BODY, declared_length=len(BODY) + 1), httpx.RemoteProtocolError),
        (Behaviour(body=BODY, close_at=10), httpx.RemoteProtocolError),
        (Behaviour(body=BODY, declared_length=None, close_at=10), httpx.RemoteProtocolError),
        (Behaviour(body=BODY, declared_length=None, close_at=len(BODY)), httpx.RemoteProtocolError),
        (Behaviour(close_at=BEFORE_HEAD), httpx.RemoteProtocolError),
        (Behaviour(body=BODY, reset_at=10), httpx.ReadError),
        (Behaviour(reset_at=BEFORE_HEAD), httpx.ReadError),
    ],
)
async def test_a_broken_answer_breaks_alike_over_a_socket_and_in_memory(
    played: Played, behaviour: Behaviour, error: type[httpx.TransportError]
) -> None:
    async with played(lambda _: behaviour) as (_, client):
        with pytest.raises(error):
            await client.get("/x")


@both
async def test_requests_are_counted_by_method_and_path_and_the_unknown_is_missing(played: Played) -> None:
    async with played({("GET", "/a?b=c"): Behaviour(body=b"query")}) as (fake, client):
        assert (await client.get("/a?b=c")).content == b"query"
        assert (await client.head("/a")).status_code == 404
        await client.head("/a")
        assert (fake.requests("GET", "/a?b=c"), fake.requests("HEAD", "/a"), fake.requests("GET", "/a")) == (1, 2, 0)
        assert fake.seen[0].headers["accept"] == "*/*"
        assert fake.seen[0].time <= fake.seen[2].time


@both
async def test_files_are_served_with_strong_tags_unless_the_script_has_a_word(played: Played) -> None:
    def script(request: Request) -> Behaviour | None:
        return MISSING if request.method == "HEAD" else None

    async with played(script) as (fake, client):
        fake.files = {"/x": BODY}
        answer = await client.get("/x")
        assert (answer.content, answer.headers["etag"]) == (BODY, strong_etag(BODY))
        assert (await client.head("/x")).status_code == 404


@both
async def test_a_sequence_is_answered_in_turn_and_its_last_for_ever(played: Played) -> None:
    script = {("GET", "/x"): [Behaviour(status=500), MISSING, good(b"at last")]}
    async with played(script) as (_, client):
        assert [(await client.get("/x")).status_code for _ in range(4)] == [500, 404, 200, 200]


@both
@pytest.mark.parametrize("declared_length", ["true", None, 7])
async def test_a_head_request_gets_the_head_alone(played: Played, declared_length: int | None) -> None:
    behaviour = Behaviour(body=BODY, declared_length=declared_length, headers={"x-mark": "1"}, reset_at=3)
    async with played(lambda _: behaviour) as (_, client):
        for _ in range(2):
            answer = await client.head("/x")
            assert (answer.content, answer.headers["x-mark"]) == (b"", "1")
            expected = {"true": "1024", None: None, 7: "7"}[declared_length]
            assert answer.headers.get("content-length") == expected


@both
@pytest.mark.parametrize(
    ("asked", "status", "body"),
    [
        ({"range": "bytes=10-19"}, 206, BODY[10:20]),
        ({"range": "bytes=1000-"}, 206, BODY[1000:]),
        ({"range": "bytes=1000-5000", "if-range": strong_etag(BODY)}, 206, BODY[1000:]),
        ({"range": "bytes=10-", "if-range": '"another"'}, 200, BODY),
        ({"range": "bytes=-10"}, 200, BODY),
        ({"range": "bytes=1024-"}, 416, b""),
        ({"if-none-match": strong_etag(BODY)}, 304, b""),
        ({"if-none-match": '"another"'}, 200, BODY),
    ],
)
async def test_conditions_and_ranges_are_honoured(
    played: Played, asked: dict[str, str], status: int, body: bytes
) -> None:
    async with played(lambda _: good(BODY)) as (_, client):
        answer = await client.get("/x", headers=asked)
        assert (answer.status_code, answer.content) == (status, body)
        if status == 206:
            first = BODY.index(body)
            assert answer.headers["content-range"] == f"bytes {first}-{first + len(body) - 1}/1024"


@both
async def test_a_server_can_ignore_ranges_and_offsets_count_what_it_sends(played: Played) -> None:
    script = {("GET", "/x"): [Behaviour(body=BODY, close_at=24), Behaviour(body=BODY, ranges=False)]}
    async with played(script) as (_, client):
        for status, body in ((206, BODY[1000:]), (200, BODY)):
            answer = await client.get("/x", headers={"range": "bytes=1000-"})
            assert (answer.status_code, answer.content) == (status, body)


@both
async def test_a_redirect_is_followed(played: Played) -> None:
    script = {("GET", "/old"): redirect("/new"), ("GET", "/new"): good(BODY)}
    async with played(script) as (fake, client):
        assert (await client.get("/old", follow_redirects=True)).content == BODY
        assert fake.requests("GET", "/new") == 1


@both
async def test_the_rest_of_a_body_comes_when_the_test_says_so(played: Played) -> None:
    release = trio.Event()
    async with (
        played(lambda _: Behaviour(body=BODY, pieces=Pieces(size=1000, release=release))) as (_, client),
        client.stream("GET", "/x") as answer,
    ):
        pieces = answer.aiter_raw()
        received = await anext(pieces)
        assert received == BODY[:1000]
        release.set()
        async for piece in pieces:
            received += piece
        assert received == BODY


@both
@pytest.mark.parametrize("silence", [Behaviour(never_answer=True), Behaviour(body=BODY, stall_at=10)])
async def test_a_test_can_act_when_a_request_has_arrived_and_silence_is_cancelled(
    played: Played, silence: Behaviour
) -> None:
    async with played(lambda _: silence) as (fake, client), trio.open_nursery() as nursery:
        nursery.start_soon(client.get, "/x")
        await fake.wait_for("GET", "/x")
        nursery.cancel_scope.cancel()


async def test_silence_over_a_socket_runs_into_the_read_timeout() -> None:
    async with over_a_socket(lambda _: Behaviour(body=BODY, stall_at=10)) as (_, client):
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/x", timeout=0.02)


async def test_a_refused_connection_raises_connect_error_everywhere() -> None:
    async with in_memory(lambda _: Behaviour(connect="refuse")) as (_, client):
        with pytest.raises(httpx.ConnectError):
            await client.get("/x")
    with refusing_url() as url:
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(url)


async def test_an_accepted_socket_cannot_refuse() -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(ValueError), flatten_subgroups=True):
        async with over_a_socket(lambda _: Behaviour(connect="refuse")) as (_, client):
            await client.get("/x")


async def test_an_error_of_the_test_leaves_the_upstream_ungrouped() -> None:
    with pytest.raises(KeyError):
        async with FakeUpstream():
            raise KeyError

"""One storage server: what its answers and its silences mean, each within its time."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import pytest
import trio
from tests.fakes import (
    BEFORE_HEAD,
    Behaviour,
    FakeTransport,
    FakeUpstream,
    Pieces,
    good,
    redirect,
    refusing_url,
    strong_etag,
)
from tests.lofts import open_servers

from pkgserver_trio.errors import AbsentError, BrokenError, SilentError, UpstreamError
from pkgserver_trio.registry_list import MAX_LISTING_BYTES
from pkgserver_trio.settings import Settings, SettingsError
from pkgserver_trio.upstream.http_client import raw_body
from pkgserver_trio.upstream.storage_servers import open_storage_servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

BODY = bytes(range(256)) * 40

FAILURES = [
    *[(Behaviour(status=status), AbsentError, 0) for status in (403, 404, 410)],
    *[(Behaviour(status=status, body=b"x"), BrokenError, 0) for status in (206, 400, 429, 500, 503)],
    (Behaviour(connect="refuse"), BrokenError, 0),
    (Behaviour(close_at=-1), BrokenError, 0),
    (Behaviour(reset_at=-1), BrokenError, 0),
    (redirect("/x"), BrokenError, 0),  # for ever
    (Behaviour(connect="hang"), SilentError, 5),
    (Behaviour(never_answer=True), SilentError, 5),
    (Behaviour(delay_before_head=60), SilentError, 5),
]
failing = pytest.mark.parametrize(("behaviour", "error", "seconds"), FAILURES)


@failing
@pytest.mark.parametrize("ask", ["probe", "body", "listing"])
async def test_a_failure_has_a_name_and_a_bounded_time(
    autojump_clock: MockClock, behaviour: Behaviour, error: type[UpstreamError], seconds: float, ask: str
) -> None:
    host = FakeTransport(script=lambda _: behaviour)
    async with open_servers({"one.invalid": host}) as (server,):
        with pytest.raises(UpstreamError) as caught:  # noqa: PT012 # one statement, by what is asked
            if ask == "probe":
                await server.probe("/x")
            elif ask == "listing":
                await server.fetch_listing("/x", None)
            else:
                async with server.open_body("/x"):
                    pytest.fail("opened a failure")
    assert type(caught.value) is error
    assert caught.value.server == "http://one.invalid"
    assert trio.current_time() == pytest.approx(seconds)
    assert host.open_answers == 0


@pytest.mark.parametrize("end", [Behaviour(close_at=BEFORE_HEAD), Behaviour(reset_at=BEFORE_HEAD)])
async def test_a_connection_that_ends_before_an_answer_costs_none(end: Behaviour) -> None:
    turns = [end, good(BODY), end, end, good(BODY)]
    async with FakeUpstream(script={("HEAD", "/x"): turns, ("GET", "/x"): turns}) as upstream:
        settings = Settings.from_mapping({"JULIA_PKG_SERVER_STORAGE_SERVERS": upstream.url})
        async with open_storage_servers(settings) as (server,):
            assert (await server.probe("/x")).size_bytes == len(BODY)
            with pytest.raises(BrokenError):  # once is what a kept connection explains
                await server.probe("/x")
            async with server.open_body("/x") as body:
                assert b"".join([piece async for piece in body.pieces]) == BODY
            with pytest.raises(BrokenError):
                await server.fetch_listing("/x", None)


async def test_redirects_share_one_time(autojump_clock: MockClock) -> None:
    slow = Behaviour(status=302, headers={"location": "/x"}, delay_before_head=4)
    async with open_servers({"one.invalid": FakeTransport(script=lambda _: slow)}) as (server,):
        with pytest.raises(SilentError):
            await server.probe("/x")
    assert trio.current_time() == pytest.approx(10)


@pytest.mark.parametrize(
    ("behaviour", "size"),
    [
        (good(BODY), len(BODY)),
        (Behaviour(body=BODY, declared_length=None), None),
        (Behaviour(headers={"content-length": "-5"}), None),
        (Behaviour(headers={"content-length": "9" * 30}), None),
        (Behaviour(status=405), None),
        (Behaviour(status=501), None),
    ],
)
async def test_a_probe_tells_the_size_where_the_server_does(behaviour: Behaviour, size: int | None) -> None:
    async with open_servers({"one.invalid": FakeTransport(script=lambda _: behaviour)}) as (server,):
        assert (await server.probe("/x")).size_bytes == size


@pytest.mark.parametrize(("status", "has"), [(200, True), (404, False), (500, None)])
async def test_a_server_has_has_not_or_does_not_say(status: int, has: bool | None) -> None:  # noqa: FBT001 # a table
    async with open_servers({"one.invalid": FakeTransport(script=lambda _: Behaviour(status=status))}) as (server,):
        assert await server.has("/x") is has


async def test_a_body_may_take_long_but_not_be_silent_for_long(autojump_clock: MockClock) -> None:
    patient = Behaviour(body=BODY, pieces=Pieces(size=1000, pause=4.9))
    silent = Behaviour(body=BODY, pieces=Pieces(size=1000), stall_at=3000)
    host = FakeTransport(script={("GET", "/patient"): patient, ("GET", "/silent"): silent})
    async with open_servers({"one.invalid": host}) as (server,):
        async with server.open_body("/patient") as body:
            assert body.head.size_bytes == len(BODY)
            assert b"".join([piece async for piece in body.pieces]) == BODY
        assert trio.current_time() == pytest.approx(49)
        received: list[bytes] = []
        with pytest.raises(SilentError):
            async with server.open_body("/silent") as body:
                received.extend([piece async for piece in body.pieces])
        assert trio.current_time() == pytest.approx(54)


async def test_a_body_is_taken_as_it_is_sent() -> None:
    host = FakeTransport(script=lambda _: Behaviour(body=BODY, headers={"content-encoding": "gzip"}))
    async with open_servers({"one.invalid": host}) as (server,), server.open_body("/x") as body:
        assert b"".join([piece async for piece in body.pieces]) == BODY
    assert host.seen[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("taken", [0, 1])
async def test_a_body_that_is_left_early_leaves_nothing_open(taken: int) -> None:
    endless = Behaviour(body=BODY, pieces=Pieces(size=100), stall_at=5000)
    async with FakeUpstream(script=lambda _: endless) as upstream:
        settings = Settings.from_mapping({"JULIA_PKG_SERVER_STORAGE_SERVERS": upstream.url})
        async with open_storage_servers(settings) as (server,):
            with pytest.raises(ValueError, match="disk"):  # noqa: PT012 # the body is what fails
                async with server.open_body("/x") as body:
                    for _ in range(taken):
                        assert await anext(body.pieces)
                    raise ValueError("disk")


async def test_a_refused_connection_is_broken_over_a_real_socket() -> None:
    with refusing_url() as url:
        settings = Settings.from_mapping({"JULIA_PKG_SERVER_STORAGE_SERVERS": url})
        async with open_storage_servers(settings) as (server,):
            with pytest.raises(BrokenError):
                await server.probe("/x")


async def test_a_redirect_never_leads_from_https_to_http() -> None:
    host = FakeTransport(script={("HEAD", "/x"): redirect("http://one.invalid/y"), ("HEAD", "/y"): good(BODY)})
    settings = Settings.from_mapping({"JULIA_PKG_SERVER_STORAGE_SERVERS": "https://one.invalid"})
    async with open_storage_servers(settings, transport=host) as (server,):
        with pytest.raises(BrokenError, match="from https to http"):
            await server.probe("/x")
    assert host.requests("HEAD", "/y") == 0


async def test_a_known_listing_is_not_sent_again() -> None:
    host = FakeTransport({"/registries": b"lines"})
    async with open_servers({"one.invalid": host}) as (server,):
        answer = await server.fetch_listing("/registries", None)
        assert answer is not None
        assert (answer.body, answer.etag, answer.last_modified) == (b"lines", strong_etag(b"lines"), None)
        assert await server.fetch_listing("/registries", answer.etag) is None


async def test_a_listing_has_a_bounded_size_and_time(autojump_clock: MockClock) -> None:
    long = Behaviour(body=bytes(MAX_LISTING_BYTES + 1))
    slow = Behaviour(body=BODY, pieces=Pieces(size=1, pause=1))
    host = FakeTransport(script={("GET", "/long"): long, ("GET", "/slow"): slow})
    async with open_servers({"one.invalid": host}) as (server,):
        with pytest.raises(BrokenError, match="longer than"):
            await server.fetch_listing("/long", None)
        with pytest.raises(SilentError):
            await server.fetch_listing("/slow", None)
    assert trio.current_time() == pytest.approx(5)


async def test_a_password_is_in_no_name() -> None:
    settings = Settings.from_mapping({"JULIA_PKG_SERVER_STORAGE_SERVERS": "http://user:secret@one.invalid"})
    host = FakeTransport()
    async with open_storage_servers(settings, transport=host) as (server,):
        with pytest.raises(AbsentError) as caught:
            await server.probe("/x")
    assert "secret" not in f"{server.name} {caught.value}"
    assert host.seen[0].headers["authorization"].startswith("Basic ")


async def test_a_body_that_is_left_with_pieces_at_hand_is_ended_from_within() -> None:
    ended: list[BaseException | None] = []

    class Answer:
        async def aiter_raw(self) -> AsyncIterator[bytes]:
            try:
                for _ in range(3):
                    yield b"at hand, so that no checkpoint comes"
                await trio.sleep_forever()
            except BaseException as end:
                ended.append(end)
                raise

    async with raw_body(Answer()) as pieces:  # type: ignore[arg-type] # all that is asked of a response
        assert await anext(pieces)
    assert isinstance(ended[0], trio.Cancelled)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "location", ["http:////..]", ":https://]\\", "http://[", "//[::1", "http://x:99999/", "\u0000"]
)
async def test_a_redirect_to_what_is_no_url_is_that_servers_failure(scheme: str, location: str) -> None:
    host = FakeTransport(script=lambda _: Behaviour(status=302, headers={"location": location}))
    settings = Settings.from_mapping({"JULIA_PKG_SERVER_STORAGE_SERVERS": f"{scheme}://one.invalid"})
    async with open_storage_servers(settings, transport=host) as (server,):
        with pytest.raises(BrokenError):
            await server.probe("/x")
        with pytest.raises(BrokenError):
            await server.fetch_listing("/x", None)


async def test_a_listing_that_is_not_modified_since_never_is_a_failure() -> None:
    host = FakeTransport(script=lambda _: Behaviour(status=304))
    async with open_servers({"one.invalid": host}) as (server,):
        with pytest.raises(BrokenError):
            await server.fetch_listing("/x", None)


@pytest.mark.parametrize(
    "proxy", ["http://u:pa:secret/w@h", "secret://u:x@h", "socks5://u:secret@h:1", ":::secret", "http://[::secret"]
)
async def test_a_proxy_that_cannot_be_one_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(SettingsError, match="HTTPS_PROXY") as raised:
        async with open_storage_servers(Settings.from_mapping({})):
            pass
    shown = "".join(traceback.format_exception(raised.value))
    assert "secret" not in shown
    assert "\n" not in str(raised.value)

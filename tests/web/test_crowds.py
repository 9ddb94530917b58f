"""More clients than there is room for, and clients that only take up room: the others are served."""

from __future__ import annotations

import errno
import socket
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
import structlog.testing
import trio
from tests.web.raw import connected, unread_by
from tests.web.site import PATIENCE_SECONDS, until

if TYPE_CHECKING:
    from tests.web.raw import RawClient
    from tests.web.site import Serve
    from tests.web.tarball import Tarball

    from pkgserver_trio.demo.sample import Sample

#: A limit that a test which passes never reaches.
NEVER = "600"
ROOM = 20


async def assert_served(port: int) -> None:
    """Ask for a page on a new connection."""
    with trio.fail_after(PATIENCE_SECONDS):
        async with connected(port) as raw:
            await raw.ask("/robots.txt", "Connection: close")
            assert (await raw.head()).status == 200
            await raw.rest()


async def open_many(stack: AsyncExitStack, port: int, count: int) -> list[RawClient]:
    return [await stack.enter_async_context(connected(port)) for _ in range(count)]


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n", b"GET /robots.txt HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_idle_and_slow_clients_make_room(serve: Serve, sent: bytes) -> None:
    site = await serve(PKGSERVER_MAX_CONNECTIONS=str(ROOM), PKGSERVER_REQUEST_HEAD_SECONDS=NEVER)
    async with AsyncExitStack() as stack:
        (first,) = await open_many(stack, site.port, 1)
        for _ in range(2 * ROOM):
            (raw,) = await open_many(stack, site.port, 1)
            if sent:
                await raw.stream.send_all(sent)
        for _ in range(3):
            await assert_served(site.port)
        assert len(site.running.server.connections) <= ROOM
        with trio.fail_after(PATIENCE_SECONDS):
            assert await first.rest() == b""


async def test_clients_that_do_not_close_after_the_last_answer_make_room(serve: Serve) -> None:
    site = await serve(PKGSERVER_MAX_CONNECTIONS="3", PKGSERVER_REQUEST_HEAD_SECONDS=NEVER)
    async with AsyncExitStack() as stack:
        for raw in await open_many(stack, site.port, 3):
            await raw.ask("/robots.txt", "Connection: close")
            await raw.head()
            await raw.rest()
        await assert_served(site.port)


async def test_who_is_being_answered_makes_no_room_and_who_comes_is_told_so(serve: Serve, large: Tarball) -> None:
    site = await serve(files={large.path: large.body}, PKGSERVER_MAX_CONNECTIONS="2")
    await site.warm(large.path)
    await site.client.aclose()
    async with AsyncExitStack() as stack:
        busy = await open_many(stack, site.port, 2)
        for raw in busy:
            await raw.ask(large.path)
            await raw.head()
        with trio.fail_after(1):
            async with connected(site.port) as late:
                await late.ask("/robots.txt")
                head = await late.head()
                assert (head.status, head.headers["connection"], head.headers["retry-after"]) == (503, "close", "5")
                assert head.headers["cache-control"] == "no-store"
                assert await late.rest() == b"too many connections\n"
        for raw in busy:
            assert await raw.exactly(len(large.body)) == large.body
    await assert_served(site.port)


async def test_more_refusals_than_can_be_told_are_closed_at_once(serve: Serve, large: Tarball) -> None:
    site = await serve(files={large.path: large.body}, PKGSERVER_MAX_CONNECTIONS="1")
    await site.warm(large.path)
    await site.client.aclose()
    async with AsyncExitStack() as stack:
        (busy,) = await open_many(stack, site.port, 1)
        await busy.ask(large.path)
        await busy.head()
        with trio.fail_after(PATIENCE_SECONDS):
            told = [await raw.rest() for raw in await open_many(stack, site.port, 40)]
        assert any(told)
        assert not all(told)


async def test_a_flood_of_pipelined_requests_is_answered_in_order_and_holds_up_nobody(
    serve: Serve, sample: Sample
) -> None:
    site = await serve(files=sample.files, PKGSERVER_REQUEST_HEAD_SECONDS=NEVER)
    count = 2000
    paths = ["/robots.txt", "/nowhere"]

    async def flood(raw: RawClient) -> None:
        for number in range(count):
            await raw.ask(paths[number % 2])

    async with connected(site.port) as raw, trio.open_nursery() as nursery:
        nursery.start_soon(flood, raw)
        for number in range(count):
            head = await raw.head()
            assert head.status == (200, 404)[number % 2]
            await raw.exactly(int(head.headers["content-length"]))
            if number % 500 == 0:
                await assert_served(site.port)


async def test_a_flood_behind_a_running_answer_waits_in_the_network(serve: Serve, large: Tarball) -> None:
    site = await serve(files={large.path: large.body})
    await site.warm(large.path)
    async with connected(site.port) as raw, trio.open_nursery() as nursery:
        await raw.ask(large.path)
        await raw.head()
        nursery.start_soon(raw.stream.send_all, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100_000)
        (busy,) = site.running.server.connections - site.running.server._host.waiting.keys()
        await until(lambda: unread_by(busy))
        for _ in range(20):
            await assert_served(site.port)
        assert len(unread_by(busy)) <= 2**16
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("path", ["/robots.txt", "a hit", "a miss"])
async def test_a_half_closed_client_has_left(serve: Serve, large: Tarball, path: str) -> None:
    site = await serve(files={large.path: large.body}, PKGSERVER_REQUEST_HEAD_SECONDS=NEVER)
    if path == "a hit":
        await site.warm(large.path)
    await site.client.aclose()
    with trio.fail_after(PATIENCE_SECONDS):
        async with connected(site.port) as raw:
            await raw.ask(large.path if path.startswith("a ") else path)
            await raw.stream.send_eof()
            await raw.rest()
        await until(lambda: not site.running.server.connections)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give a list of errors that accept(2) is to fail with."""
    errors: list[int] = []
    real = trio.SocketListener.accept

    async def accept(listener: trio.SocketListener) -> trio.SocketStream:
        stream = await real(listener)
        if errors:
            await trio.aclose_forcefully(stream)
            raise OSError(errors.pop(), "no room")
        return stream

    monkeypatch.setattr(trio.SocketListener, "accept", accept)
    return errors


async def test_a_shortage_of_descriptors_delays_new_connections_only_and_is_told_once(
    serve: Serve, few: list[int]
) -> None:
    with structlog.testing.capture_logs() as log:
        site = await serve(JULIA_PKG_SERVER_REGISTRY_UPDATE_PERIOD="600")
        polls = [poll for flavor in site.running.registries.flavors.values() for poll in flavor.polls]
        await until(lambda: all(poll.failing for poll in polls))  # from now on nobody connects but the test
        async with connected(site.port) as raw:
            await raw.ask("/robots.txt")
            await raw.exactly(int((await raw.head()).headers["content-length"]))
            few += [errno.EMFILE, errno.ENFILE, errno.EMFILE]
            while few:
                async with connected(site.port) as other:
                    await other.rest()
                await raw.ask("/robots.txt")
                await raw.exactly(int((await raw.head()).headers["content-length"]))
        await assert_served(site.port)
    assert [line["error"] for line in log if line["event"] == "no connection can be accepted"] == ["no room"]


async def test_clients_that_connect_and_vanish_leave_nothing(serve: Serve) -> None:
    site = await serve(PKGSERVER_REQUEST_HEAD_SECONDS=NEVER)
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", site.port)):
            pass
    await assert_served(site.port)
    await until(lambda: not site.running.server.connections)

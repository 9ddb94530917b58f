"""Names that are looked up in threads of their own, a hanging one beside the others."""

from __future__ import annotations

import socket
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from pkgserver_trio.errors import ShuttingDownError
from pkgserver_trio.upstream import lookups
from pkgserver_trio.upstream.lookups import FAILED_SECONDS, GOOD_SECONDS, MAX_NAMES, MAX_THREADS, Names, own_names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

HANGS = b"hangs.invalid"
FAILS = b"fails.invalid"
GOOD = b"good.invalid"
PATIENCE_SECONDS = 10


class Nameservers:
    """Hang for some names until `release`, fail for one, and answer for all others; note what they are asked."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.release = threading.Event()

    def __call__(self, host: bytes, port: int) -> list[Any]:
        self.asked.append(host)
        if host.startswith(HANGS):
            self.release.wait(PATIENCE_SECONDS)
        if host == FAILS:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(host, port)]


@asynccontextmanager
async def asking(servers: Nameservers) -> AsyncIterator[Names]:
    async with trio.open_nursery() as nursery:
        try:
            yield Names(nursery, servers)
        finally:
            servers.release.set()
            nursery.cancel_scope.cancel()


async def give_up_on(asked: Names, host: bytes) -> None:
    with trio.move_on_after(0.001):
        await asked.getaddrinfo(host, 80)


async def test_a_name_that_hangs_takes_one_thread_however_often_it_is_asked_for_and_given_up() -> None:
    servers = Nameservers()
    async with asking(servers) as asked:
        for _ in range(2 * MAX_THREADS):
            await give_up_on(asked, HANGS)
        with trio.fail_after(PATIENCE_SECONDS):
            assert await asked.getaddrinfo(GOOD, 80) == [(GOOD, 80)]
        assert servers.asked == [HANGS, GOOD]
        assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0


async def test_names_that_hang_leave_the_threads_of_all_others_alone() -> None:
    servers = Nameservers()
    async with asking(servers) as asked:
        for number in range(2 * MAX_THREADS):
            await give_up_on(asked, HANGS + b"%d" % number)
        assert len(servers.asked) <= MAX_THREADS
        assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
        servers.release.set()
        with trio.fail_after(PATIENCE_SECONDS):
            assert await asked.getaddrinfo(GOOD, 80) == [(GOOD, 80)]


async def test_all_who_ask_the_same_at_a_time_get_one_answer() -> None:
    servers = Nameservers()
    answers: list[object] = []

    async def ask(port: int) -> None:
        answers.append(await asked.getaddrinfo(HANGS, port))

    async with asking(servers) as asked, trio.open_nursery() as nursery:
        for port in (80, 443, 80, 80):
            nursery.start_soon(ask, port)
        await wait_all_tasks_blocked()
        servers.release.set()
    assert len(servers.asked) == 2
    assert sorted(map(str, answers)) == sorted(str([(HANGS, port)]) for port in (80, 80, 80, 443))


async def test_an_answer_is_remembered_for_seconds_and_a_failure_for_less(
    no_threads: None, autojump_clock: MockClock
) -> None:
    servers = Nameservers()
    async with asking(servers) as asked:

        async def ask() -> None:
            await asked.getaddrinfo(GOOD, 80)
            with pytest.raises(socket.gaierror, match="not known"):
                await asked.getaddrinfo(FAILS, 80)

        for _ in range(2):
            await ask()
        assert servers.asked == [GOOD, FAILS]
        await trio.sleep(FAILED_SECONDS + 0.1)
        await ask()
        assert servers.asked == [GOOD, FAILS, FAILS]
        await trio.sleep(GOOD_SECONDS)
        await ask()
        assert servers.asked == [GOOD, FAILS, FAILS, GOOD, FAILS]


async def test_more_names_than_can_be_remembered_are_refused_until_some_are_forgotten(
    no_threads: None, autojump_clock: MockClock
) -> None:
    async with asking(Nameservers()) as asked:
        for number in range(MAX_NAMES):
            await asked.getaddrinfo(GOOD + b"%d" % number, 80)
        with pytest.raises(socket.gaierror, match="too many names"):
            await asked.getaddrinfo(GOOD, 80)
        await trio.sleep(GOOD_SECONDS + 0.1)
        await asked.getaddrinfo(GOOD, 80)


async def test_who_waits_for_a_name_while_the_server_stops_is_told_so() -> None:
    servers = Nameservers()
    async with trio.open_nursery() as waiting, asking(servers) as asked:

        async def wait() -> None:
            with pytest.raises(ShuttingDownError):
                await asked.getaddrinfo(HANGS, 80)

        waiting.start_soon(wait)
        await wait_all_tasks_blocked()


async def test_numeric_addresses_have_names_too() -> None:
    async with asking(Nameservers()) as asked:
        assert await asked.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV) == (
            "127.0.0.1",
            "80",
        )


async def test_trio_is_told_of_them_unless_it_was_told_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def names_of(_: trio.Nursery) -> Names:
        return ours

    async with asking(Nameservers()) as ours, asking(Nameservers()) as others:
        monkeypatch.setattr(lookups, "Names", names_of)
        async with own_names():
            assert trio.socket.set_custom_hostname_resolver(ours) is ours
        assert trio.socket.set_custom_hostname_resolver(others) is None
        async with own_names():
            assert trio.socket.set_custom_hostname_resolver(others) is others
        assert trio.socket.set_custom_hostname_resolver(None) is others

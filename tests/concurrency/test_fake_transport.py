"""What only the upstream without sockets can do: pretended time, hanging connections, many hosts, leak counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
import trio
from tests.fakes import Behaviour, FakeNetwork, FakeTransport, Pieces

if TYPE_CHECKING:
    from trio.testing import MockClock

BODY = bytes(range(256)) * 4
TIMEOUT = httpx.Timeout(5)


def client_of(behaviour: Behaviour) -> httpx.AsyncClient:
    transport = FakeTransport(script=lambda _: behaviour)
    return httpx.AsyncClient(transport=transport, base_url="http://fake.invalid", timeout=TIMEOUT)


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (Behaviour(never_answer=True), httpx.ReadTimeout),
        (Behaviour(delay_before_head=5.5), httpx.ReadTimeout),
        (Behaviour(body=BODY, stall_at=0), httpx.ReadTimeout),
        (Behaviour(body=BODY, stall_at=len(BODY), declared_length=None), httpx.ReadTimeout),
        (Behaviour(body=BODY, pieces=Pieces(size=512, pause=5.5)), httpx.ReadTimeout),
        (Behaviour(connect="hang"), httpx.ConnectTimeout),
    ],
)
async def test_silence_lasts_exactly_the_timeout(
    autojump_clock: MockClock, behaviour: Behaviour, error: type[httpx.TimeoutException]
) -> None:
    async with client_of(behaviour) as client:
        with pytest.raises(error):
            await client.get("/x")
    assert trio.current_time() == pytest.approx(TIMEOUT.read)


async def test_slowness_costs_only_pretended_time(autojump_clock: MockClock) -> None:
    slow = Behaviour(body=BODY, delay_before_head=4, pieces=Pieces(size=1, pause=4))
    async with client_of(slow) as client:
        assert (await client.get("/x")).content == BODY
    assert trio.current_time() == pytest.approx(4 * len(BODY))


async def test_without_a_timeout_a_silent_answer_is_waited_for(autojump_clock: MockClock) -> None:
    async with client_of(Behaviour(delay_before_head=3600)) as client:
        assert (await client.get("/x", timeout=None)).status_code == 200


async def test_an_answer_stays_open_until_it_is_closed() -> None:
    fake = FakeTransport({"/x": BODY})
    async with httpx.AsyncClient(transport=fake, base_url="http://fake.invalid") as client:
        async with client.stream("GET", "/x"):
            assert fake.open_answers == 1
        assert fake.open_answers == 0


async def test_a_network_routes_by_host_and_refuses_the_others() -> None:
    one, two = FakeTransport({"/x": b"1"}), FakeTransport({"/x": b"2"})
    async with httpx.AsyncClient(transport=FakeNetwork({"one.invalid": one, "two.invalid": two})) as client:
        assert (await client.get("http://one.invalid/x")).content == b"1"
        assert (await client.get("https://two.invalid/x")).content == b"2"
        with pytest.raises(httpx.ConnectError):
            await client.get("http://three.invalid/x")

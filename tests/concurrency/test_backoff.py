"""Storage servers that keep failing are left alone, and come back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio
from tests.fakes import Behaviour, FakeTransport, Request, good
from tests.lofts import open_loft, tarball

from pkgserver_trio.errors import UpstreamFailedError

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

WANTED = [tarball(f"wanted {number}") for number in range(12)]
FILES = {one.path: one.body for one in WANTED}
BROKEN = Behaviour(status=500)


def slowly(request: Request) -> Behaviour | None:
    """Answer a probe a little later than a failing server, whose failure then is seen."""
    return replace(good(FILES[request.path]), delay_before_head=0.1) if request.method == "HEAD" else None


def probes(host: FakeTransport) -> int:
    return sum(request.method == "HEAD" for request in host.seen)


async def test_a_failing_server_is_left_alone_and_one_attempt_lets_it_back(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    failing = FakeTransport(script=lambda _: BROKEN)
    slow = FakeTransport(FILES, script=slowly)
    async with open_loft(tmp_path, {"failing.invalid": failing, "slow.invalid": slow}) as loft:
        for one in WANTED[:6]:
            assert (await loft.get(one.resource)).body == one.body
        assert probes(failing) == 3, "after three failures in a row it rests"
        await trio.sleep(1)
        failing.script, failing.files = {}, FILES
        for one in WANTED[6:9]:
            assert (await loft.get(one.resource)).body == one.body
        assert probes(failing) == 6, "the attempt after its rest succeeded"


async def test_when_all_servers_rest_one_is_tried(tmp_path: Path, autojump_clock: MockClock) -> None:
    hosts = {f"{name}.invalid": FakeTransport(script=lambda _: BROKEN) for name in ("one", "two")}
    async with open_loft(tmp_path, hosts) as loft:
        for one in WANTED[:3]:
            with pytest.raises(UpstreamFailedError):
                await loft.get(one.resource)
        assert [probes(host) for host in hosts.values()] == [3, 3]
        for host in hosts.values():
            host.script, host.files = {}, FILES
        assert (await loft.get(WANTED[4].resource)).body == WANTED[4].body
        assert sum(probes(host) for host in hosts.values()) == 7


async def test_not_having_a_resource_is_no_failure(tmp_path: Path, autojump_clock: MockClock) -> None:
    poor, rich = FakeTransport(), FakeTransport(FILES)
    async with open_loft(tmp_path, {"poor.invalid": poor, "rich.invalid": rich}) as loft:
        for one in WANTED:
            await loft.get(one.resource)
    assert probes(poor) == len(WANTED)

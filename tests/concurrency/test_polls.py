"""How listings are asked for, what a wrong one does, and which head wins when servers disagree."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

import pytest
import trio
from tests.fakes import Behaviour, FakeTransport
from tests.lofts import open_servers, registries_of, registry_of

from pkgserver_trio.registry_list import MAX_LISTING_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.lofts import Tarball
    from trio.testing import MockClock


GENERAL = "23338594-aafe-5451-b93e-139f81909106"
OLD, NEW = registry_of(GENERAL, "old"), registry_of(GENERAL, "new")
LISTING = "/registries"


def listing(state: Tarball) -> bytes:
    return f"{state.path}\n".encode()


def server(lists: Tarball, *knows: Tarball) -> FakeTransport:
    return FakeTransport({LISTING: listing(lists)} | {state.path: state.body for state in (lists, *knows)})


async def follow(root: Path, hosts: Mapping[str, FakeTransport], *, seconds: float) -> bytes | None:
    """Return what is published after so long, with a look every second and everything to be had."""

    async with open_servers(hosts) as servers, trio.open_nursery() as nursery:
        registries = registries_of(root, servers, period_seconds=1, flavorless=True)
        nursery.start_soon(registries.run)
        await trio.sleep(seconds)
        nursery.cancel_scope.cancel()
    return registries.flavors[""].listing


async def test_a_listing_is_asked_for_with_its_validator_and_every_minute_without(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    host = server(OLD)
    await follow(tmp_path, {"one.invalid": host}, seconds=130.5)
    whole = [request.time for request in host.seen if "if-none-match" not in request.headers]
    assert whole == [0, 60, 120]
    assert len(host.seen) == 131


async def test_after_a_failure_the_listing_is_asked_for_without_its_validator(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    broken = Behaviour(status=500)
    fine = Behaviour(body=listing(OLD), etag='"one"')
    host = FakeTransport(script={("GET", LISTING): [fine, fine, broken, fine]})
    assert await follow(tmp_path, {"one.invalid": host}, seconds=4.5) == listing(OLD)
    assert ["if-none-match" in request.headers for request in host.seen] == [False, True, True, False, True]


@pytest.mark.parametrize(
    "wrong",
    [
        Behaviour(body=b"<html>It works!</html>"),
        Behaviour(body=b""),
        Behaviour(body=NEW.path.encode().upper()),
        Behaviour(body=listing(NEW) + listing(OLD)),
        Behaviour(body=b"\xff\xfe" + listing(NEW)),
        Behaviour(body=b"\n" * (MAX_LISTING_BYTES + 1) + listing(NEW)),
        Behaviour(body=listing(NEW), close_at=10),
        Behaviour(body=listing(NEW), stall_at=10),
        Behaviour(status=404),
        Behaviour(status=304),
    ],
)
async def test_a_malformed_listing_changes_nothing(tmp_path: Path, autojump_clock: MockClock, wrong: Behaviour) -> None:
    host = FakeTransport(script={("GET", LISTING): [Behaviour(body=listing(OLD)), wrong]})
    assert await follow(tmp_path, {"one.invalid": host}, seconds=30.5) == listing(OLD)


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_the_head_that_fewest_servers_know_is_the_newest(
    tmp_path: Path, autojump_clock: MockClock, order: tuple[int, ...]
) -> None:
    servers = [server(OLD), server(OLD), server(NEW, OLD)]
    hosts = {f"host{n}.invalid": servers[place] for n, place in enumerate(order)}
    assert await follow(tmp_path, hosts, seconds=20.5) == listing(NEW)


async def test_a_server_that_cannot_say_has_no_say(tmp_path: Path, autojump_clock: MockClock) -> None:
    mute = server(OLD)
    mute.script = lambda request: Behaviour(status=500) if request.method == "HEAD" else None
    hosts = {"new.invalid": server(NEW, OLD), "mute.invalid": mute, "old.invalid": server(OLD)}
    assert await follow(tmp_path, hosts, seconds=20.5) == listing(NEW)


async def test_what_a_server_once_had_is_not_asked_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    ahead, behind = server(NEW, OLD), server(OLD)
    assert await follow(tmp_path, {"a.invalid": ahead, "b.invalid": behind}, seconds=10.5) == listing(NEW)
    assert ahead.requests("HEAD", OLD.path) == 1
    assert behind.requests("HEAD", NEW.path) == 2, "then it is known to be behind"


async def test_the_published_head_stays_when_servers_know_both(tmp_path: Path, autojump_clock: MockClock) -> None:
    first = server(OLD, NEW)
    assert await follow(tmp_path, {"a.invalid": first}, seconds=1) == listing(OLD)
    hosts = {"a.invalid": first, "b.invalid": server(NEW, OLD)}
    assert await follow(tmp_path, hosts, seconds=5) == listing(OLD)


async def test_a_server_that_does_not_know_the_published_head_moves_nobody_backwards(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    ahead, behind = server(NEW, OLD), server(OLD)
    hosts = {"ahead.invalid": ahead, "behind.invalid": behind}
    assert await follow(tmp_path, hosts, seconds=2) == listing(NEW)
    ahead.script = lambda _: Behaviour(connect="refuse")
    assert await follow(tmp_path, hosts, seconds=30) == listing(NEW)

"""Three storage servers in every order of knowing three heads, with every subset of them failing or hanging."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import pytest
import trio
from tests.concurrency.test_registries import NEW, NEWER, OLD, following, listing, server, shown
from tests.fakes import Behaviour

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.fakes import FakeTransport, Request
    from trio.testing import MockClock

HEADS = (OLD, NEW, NEWER)
TROUBLES = [Behaviour(status=500), Behaviour(never_answer=True), Behaviour(connect="hang")]


def server_at(age: int) -> FakeTransport:
    return server(HEADS[age], knows=HEADS[:age])


@pytest.mark.parametrize("ages", list(product(range(3), repeat=3)))
async def test_the_newest_head_that_is_heard_of_is_published_and_never_left_for_an_older_one(
    tmp_path: Path, autojump_clock: MockClock, ages: tuple[int, int, int]
) -> None:
    for number, troubled in enumerate(product([False, True], repeat=3)):
        root = tmp_path / str(number)
        root.mkdir()
        hosts = {f"host{place}.invalid": server_at(age) for place, age in enumerate(ages)}
        disturb(hosts.values(), troubled)
        async with following(root, hosts, period_seconds=5) as registries:
            await trio.sleep(6)
            heard = [age for age, in_trouble in zip(ages, troubled, strict=True) if not in_trouble]
            assert shown(registries) == (listing(HEADS[max(heard)]) if heard else None)
            disturb(hosts.values(), [False] * 3)
            await trio.sleep(20)
            assert shown(registries) == listing(HEADS[max(ages)])
            disturb(hosts.values(), [age == max(ages) for age in ages])
            await trio.sleep(20)
            assert shown(registries) == listing(HEADS[max(ages)])


def disturb(hosts: Iterable[FakeTransport], troubled: Iterable[bool]) -> None:
    """Let each host be in its own kind of trouble, or in none."""
    for host, in_trouble, trouble in zip(hosts, troubled, TROUBLES, strict=True):
        host.script = partial(_always, trouble) if in_trouble else {}


def _always(behaviour: Behaviour, _: Request) -> Behaviour:
    return behaviour

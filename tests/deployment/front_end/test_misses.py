"""What nginx does not have: which server is asked, when the other one is, and how an answer comes through."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
from tests.behaviours import BEFORE_HEAD, MISSING, Behaviour, Pieces, good
from tests.deployment.front_end.conftest import SAMPLE, address, front_before, stack_of, upstreams
from tests.fakes import FakeUpstream, refusing_url
from tests.web.raw import connected

if TYPE_CHECKING:
    from pathlib import Path

    from tests.deployment.front_end.conftest import Stack

pytestmark = pytest.mark.integration

PATHS = [f"/artifact/{number:040x}" for number in range(20)]
ARTIFACT = SAMPLE.artifact.path
ANYTHING = Behaviour(body=b"something")


def host_of(url: str) -> str:
    return httpx.URL(url).netloc.decode("ascii")


async def test_each_resource_has_a_server_and_each_server_resources(tmp_path: Path) -> None:
    async with (
        upstreams(lambda _: ANYTHING) as (first, second),
        front_before(tmp_path, address(first), address(second)) as (_, front),
    ):
        for path in PATHS:
            await front.get(path)
            await front.get(path, headers={"X-Pkgserver": "2"})
            await front.get(f"{path}?query")
    asked = [{request.path.partition("?")[0] for request in upstream.seen} for upstream in (first, second)]
    assert asked[0] | asked[1] == set(PATHS)
    assert not asked[0] & asked[1]
    assert min(len(paths) for paths in asked) > len(PATHS) // 5


async def test_an_artifact_is_described_by_the_server_that_fetches_it(tmp_path: Path) -> None:
    async with (
        upstreams(lambda _: ANYTHING) as servers,
        front_before(tmp_path, *map(address, servers)) as (_, front),
    ):
        for path in PATHS:
            await front.get(path)
            await front.get(f"{path}/Example")
    for server in servers:
        asked = [request.path for request in server.seen]
        assert asked[1::2] == [f"{path}/Example" for path in asked[::2]]


@pytest.mark.parametrize("holder", [0, 1])
async def test_a_tarball_that_is_served_is_described_by_its_server_or_by_nobody(tmp_path: Path, holder: int) -> None:
    """Another server's tarball of the same tree may have other bytes, and so another SHA-256."""
    for path in PATHS:
        held = tmp_path / f"store{holder + 1}" / "cache" / path[1:]
        held.parent.mkdir(parents=True, exist_ok=True)
        held.write_bytes(b"a tarball")
    async with (
        upstreams(lambda _: ANYTHING) as servers,
        front_before(tmp_path, *map(address, servers)) as (_, front),
    ):
        for path in PATHS:
            assert (await front.get(f"{path}/Example")).content == b"something"
        assert len(servers[holder].seen) == len(PATHS)
        servers[holder].script = lambda _: Behaviour(close_at=BEFORE_HEAD)
        answer = await front.get(f"{PATHS[0]}/Example")
        assert (answer.status_code, answer.headers["Retry-After"]) == (502, "5")
        assert not servers[1 - holder].seen


async def test_what_is_no_resource_is_the_first_servers_unless_the_second_is_asked_for(tmp_path: Path) -> None:
    async with (
        upstreams(lambda _: ANYTHING) as (first, second),
        front_before(tmp_path, address(first), address(second)) as (_, front),
    ):
        for path in ("/registries", "/meta", "/admin/flights"):
            await front.get(path)
            await front.get(path, headers={"X-Pkgserver": "2"})
            assert (len(first.seen), len(second.seen)) == (1, 1)
            assert first.seen.pop().path == second.seen.pop().path == path


@pytest.mark.parametrize("status", [502, 503, 504, 507])
async def test_the_other_server_answers_for_one_that_cannot(tmp_path: Path, status: int) -> None:
    async with (
        FakeUpstream(script=lambda _: Behaviour(status=status)) as failing,
        FakeUpstream(script=lambda _: ANYTHING) as working,
    ):
        for number, servers in enumerate(((failing, working), (working, failing))):
            folder = tmp_path / str(number)
            async with front_before(folder, *(address(server) for server in servers)) as (_, front):
                answers = [await front.get(path) for path in (*PATHS, "/registries")]
            assert {(answer.status_code, answer.content) for answer in answers} == {(200, b"something")}
        assert failing.seen


async def test_the_other_server_answers_for_one_that_is_gone_or_breaks_off(tmp_path: Path) -> None:
    broken = Behaviour(body=b"something", close_at=BEFORE_HEAD)
    async with FakeUpstream(script=lambda _: ANYTHING) as working, FakeUpstream(script=lambda _: broken) as breaking:
        with refusing_url() as gone:
            for number, server in enumerate((host_of(gone), address(breaking))):
                async with front_before(tmp_path / str(number), server, address(working)) as (_, front):
                    answers = [await front.get(path) for path in (*PATHS, "/registries")]
                assert {answer.status_code for answer in answers} == {200}


async def test_the_other_server_answers_for_one_that_hangs(tmp_path: Path) -> None:
    soon = {"proxy_read_timeout 5s": "proxy_read_timeout 100ms", "proxy_read_timeout 15s": "proxy_read_timeout 100ms"}
    async with (
        FakeUpstream(script=lambda _: Behaviour(never_answer=True)) as hanging,
        FakeUpstream(script=lambda _: ANYTHING) as working,
        front_before(tmp_path, address(hanging), address(working), places=soon) as (_, front),
    ):
        answers = [await front.get(path) for path in (*PATHS[:5], "/registries")]
        assert {answer.status_code for answer in answers} == {200}
        assert hanging.seen


async def test_nobody_waits_long_for_two_that_hang(tmp_path: Path) -> None:
    soon = {"proxy_read_timeout 5s": "proxy_read_timeout 100ms"}
    async with (
        upstreams(lambda _: Behaviour(never_answer=True)) as (first, second),
        front_before(tmp_path, address(first), address(second), places=soon) as (_, front),
    ):
        answer = await front.get("/registries.eager")
        assert (answer.status_code, answer.text) == (502, "no package server answers\n")
        assert len(first.seen) == len(second.seen) == 1


async def test_what_needs_a_whole_tarball_first_has_more_time(tmp_path: Path) -> None:
    soon = {"proxy_read_timeout 5s": "proxy_read_timeout 10ms", "proxy_read_timeout 15s": "proxy_read_timeout 10ms"}
    async with (
        upstreams(lambda _: replace(ANYTHING, delay_before_head=0.1)) as (first, second),
        front_before(tmp_path, address(first), address(second), places=soon) as (_, front),
    ):
        assert (await front.get(f"{PATHS[0]}/Example")).status_code == 200
        assert len(first.seen + second.seen) == 1
        assert (await front.get(PATHS[0])).status_code == 200
        assert len(first.seen + second.seen) == 3


@pytest.mark.parametrize("status", [200, 302, 400, 401, 404, 409, 416, 429, 500])
async def test_any_other_answer_is_the_answer(tmp_path: Path, status: int) -> None:
    said = Behaviour(status=status, body=b"a word", headers={"retry-after": "7", "x-cache-miss": "miss"})
    async with (
        upstreams(lambda _: said) as (first, second),
        front_before(tmp_path, address(first), address(second)) as (_, front),
    ):
        for path in (PATHS[0], "/registries", "/admin"):
            answer = await front.get(path)
            assert (answer.status_code, answer.content, answer.headers["Retry-After"]) == (status, b"a word", "7")
        assert len(first.seen + second.seen) == 3


async def test_what_both_servers_say_is_said(tmp_path: Path) -> None:
    said = Behaviour(status=503, body=b"a reason\n", headers={"retry-after": "7", "cache-control": "no-store"})
    async with (
        upstreams(lambda _: said) as (first, second),
        front_before(tmp_path, address(first), address(second)) as (_, front),
    ):
        for path in (PATHS[0], "/registries", f"{PATHS[0]}/Example"):
            answer = await front.get(path)
            assert (answer.status_code, answer.text, answer.headers["Retry-After"]) == (503, "a reason\n", "7")
        assert len(first.seen) == len(second.seen) == 3


async def test_without_servers_a_miss_is_told_to_come_back(tmp_path: Path) -> None:
    with refusing_url() as one, refusing_url() as other:
        async with front_before(tmp_path, host_of(one), host_of(other)) as (_, front):
            for path in (PATHS[0], "/meta", f"{PATHS[0]}/Example"):
                answer = await front.get(path, headers={"X-Request-ID": "this"})
                assert (answer.status_code, answer.text) == (502, "no package server answers\n")
                assert answer.headers["Retry-After"] == "5"
                assert answer.headers["Cache-Control"] == "no-store"
                assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
                assert answer.headers.get_list("X-Request-ID") == ["this"]


@pytest.mark.parametrize("path", [*PATHS[:4], "/registries", f"{PATHS[0]}/Example", "/admin/cache/verify"])
async def test_what_may_not_be_done_twice_is_asked_of_one_server(tmp_path: Path, path: str) -> None:
    async with (
        upstreams(lambda _: Behaviour(status=502, close_at=BEFORE_HEAD)) as (first, second),
        front_before(tmp_path, address(first), address(second)) as (_, front),
    ):
        for method in ("POST", "DELETE"):
            assert (await front.request(method, path)).status_code == 502
        assert [request.method for request in first.seen + second.seen] == ["POST", "DELETE"]


async def test_an_admin_is_answered_by_the_server_that_was_asked(tmp_path: Path) -> None:
    with refusing_url() as gone:
        async with (
            FakeUpstream(script=lambda _: ANYTHING) as working,
            front_before(tmp_path, host_of(gone), address(working)) as (_, front),
        ):
            assert (await front.get("/admin/flights")).status_code == 502
            assert not working.seen


async def test_the_first_bytes_of_a_download_come_at_once(tmp_path: Path) -> None:
    release = trio.Event()
    slow = replace(good(b"ab"), pieces=Pieces(size=1, release=release))
    async with (
        upstreams(lambda _: slow) as (first, second),
        front_before(tmp_path, address(first), address(second)) as (_, front),
        front.stream("GET", ARTIFACT) as answer,
    ):
        pieces = answer.aiter_raw()
        assert await anext(pieces) == b"a"
        release.set()
        assert b"".join([piece async for piece in pieces]) == b"b"


async def test_the_first_bytes_of_what_has_no_size_yet_come_at_once(stack: Stack) -> None:
    release, body = trio.Event(), SAMPLE.files[ARTIFACT]
    slow = replace(good(body), declared_length=None, pieces=Pieces(size=len(body) // 2, release=release))
    for site in stack.sites:
        site.upstream.script = {("GET", ARTIFACT): slow}
    async with stack.front.stream("GET", ARTIFACT) as answer:
        pieces = answer.aiter_raw()
        received = await anext(pieces)
        assert 0 < len(received) < len(body)
        release.set()
        assert received + b"".join([piece async for piece in pieces]) == body


async def test_what_cannot_be_read_after_all_is_asked_for(tmp_path: Path) -> None:
    """As a file that is evicted between nginx's look at it and its opening: it is there, and then it is no file."""
    for store in ("store1", "store2"):
        folder = tmp_path / f"only-{store}"
        place = folder / store / "cache" / PATHS[0][1:]
        place.parent.mkdir(parents=True)
        os.mkfifo(place)
        async with (
            upstreams(lambda _: ANYTHING) as (first, second),
            front_before(folder, address(first), address(second)) as (_, front),
        ):
            assert (await front.get(PATHS[0])).content == b"something"


async def test_a_download_that_breaks_off_does_not_look_whole(tmp_path: Path) -> None:
    broken = Behaviour(body=b"x" * 1000, declared_length=None, close_at=500)
    async with (
        upstreams(lambda _: broken) as (first, second),
        front_before(tmp_path, address(first), address(second)) as (_, front),
    ):
        with pytest.raises(httpx.RemoteProtocolError):
            await front.get(ARTIFACT)


async def test_a_client_of_http_1_0_gets_the_size_of_what_has_none_yet(nursery: trio.Nursery, tmp_path: Path) -> None:
    async with stack_of(nursery, tmp_path) as stack:
        for site in stack.sites:
            site.upstream.script = {("GET", ARTIFACT): replace(good(SAMPLE.files[ARTIFACT]), declared_length=None)}
        async with connected(stack.front_end.ports[8000]) as raw:
            await raw.ask(ARTIFACT, version="1.0")
            head = await raw.head()
            assert (head.status, head.headers["content-length"]) == (200, str(len(SAMPLE.files[ARTIFACT])))
            assert await raw.rest() == SAMPLE.files[ARTIFACT]


async def test_a_request_keeps_its_name_and_gets_one_if_it_has_none(stack: Stack) -> None:
    for site in stack.sites:
        await site.when_ready()
    await stack.warm(ARTIFACT)
    for path in (ARTIFACT, SAMPLE.packages[0].path, "/registries", "/none", "/notify"):
        answer = await stack.front.get(path, headers={"X-Request-ID": "its-own:name"})
        assert answer.headers.get_list("X-Request-ID") == ["its-own:name"]
        for unusable in ({}, {"X-Request-ID": "a b"}, {"X-Request-ID": "x" * 129}):
            made = (await stack.front.get(path, headers=unusable)).headers.get_list("X-Request-ID")
            assert len(made) == 1
            assert len(made[0]) == 32


async def test_a_resource_that_only_the_other_server_has_heard_of_is_served(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    """Servers may know different registry heads: each one fetches what it is asked for, whoever listed it."""
    async with stack_of(nursery, tmp_path) as stack:
        for site in stack.sites:
            await site.when_ready()
        listed = (await stack.front.get("/registries", follow_redirects=True)).text.splitlines()
        for site in stack.sites:
            site.upstream.script = {("GET", "/registries.eager"): MISSING, ("GET", "/registries.conservative"): MISSING}
        answers = [(await stack.front.get(path)).status_code for path in listed]
        assert answers == [200] * len(listed) != []


async def test_what_the_server_says_comes_through_as_it_is(stack: Stack) -> None:
    for site in stack.sites:
        await site.when_ready()
    moved = await stack.front.get("/registries")
    assert (moved.status_code, moved.headers["Location"]) == (302, "/registries.conservative")
    assert json.loads((await stack.front.get("/readyz")).text)["status"] == "ok"
    refused = await stack.front.post(ARTIFACT)
    assert (refused.status_code, refused.headers["Allow"]) == (405, "GET, HEAD")
    assert (await stack.front.get(f"{ARTIFACT}/Example")).headers["Content-Type"] == "application/toml"

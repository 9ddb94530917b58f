"""No server answers: a client can still install what was installed before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.deployment.front_end.conftest import SAMPLE, stack_of
from tests.deployment.front_end.running import PLAIN
from tests.deployment.front_end.test_same_answers import comparable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import httpx
    import trio
    from tests.deployment.front_end.conftest import Stack

pytestmark = pytest.mark.integration

ASKING: list[Mapping[str, str]] = [
    {},
    *(
        {"Julia-CI-Variables": variables}
        for variables in ("CI=t", "CI=n;TRAVIS=t", "A=t;B=n", "A=n; B=t ;", "CI=n", "CI=true", "=t", "t", "CI=tt;A=f")
    ),
    *(
        {"Julia-Registry-Preference": preference, "Julia-CI-Variables": "CI=t"}
        for preference in (
            "conservative",
            "other, conservative,eager",
            "eager ,conservative",
            "eagerly,conservative",
            "",
            ",",
            "Conservative",
            "conservative eager",
        )
    ),
]


async def ready(stack: Stack) -> None:
    for site in stack.sites:
        await site.when_ready()


async def stop_servers(stack: Stack) -> None:
    for site in stack.sites:
        site.running.stopping.set()
        await site.ended.wait()


async def ask_all(client: httpx.AsyncClient) -> dict[str, tuple[int, str, str]]:
    answers = {str(asked): await client.get("/registries", headers=asked) for asked in ASKING}
    return {
        asked: (answer.status_code, answer.headers["Location"], answer.headers["Vary"])
        for asked, answer in answers.items()
    }


async def test_a_client_is_sent_to_the_flavor_that_the_servers_would_send_it_to(stack: Stack) -> None:
    await ready(stack)
    by_servers = await ask_all(stack.front)
    await stop_servers(stack)
    assert await ask_all(stack.front) == by_servers
    assert len({location for _, location, _ in by_servers.values()}) == 2


@pytest.mark.parametrize("flavor", ["eager", "conservative"])
async def test_what_was_published_is_listed(stack: Stack, flavor: str) -> None:
    await ready(stack)
    path, asked = (
        f"/registries.{flavor}",
        {"X-Request-ID": "same", "If-Modified-Since": "Sun, 06 Nov 1994 08:49:37 GMT"},
    )
    by_server = comparable(await stack.front.get(path, headers=asked))
    await stop_servers(stack)
    by_nginx = comparable(await stack.front.get(path, headers=asked))
    assert by_nginx == by_server._replace(headers=[header for header in by_server.headers if header[0] != "etag"])
    assert (await stack.front.get(f"{path}x")).status_code == 502
    assert (await stack.front.post(path)).status_code == 502


async def test_the_second_store_has_it_where_the_first_has_not(stack: Stack) -> None:
    await ready(stack)
    await stop_servers(stack)
    (stack.sites[0].root / "static" / "registries.eager").unlink()
    assert (await stack.front.get("/registries.eager")).text == f"{SAMPLE.registry.path}\n"
    (stack.sites[1].root / "static" / "registries.eager").unlink()
    answer = await stack.front.get("/registries.eager")
    assert (answer.status_code, answer.text) == (502, "no package server answers\n")


async def test_while_a_server_answers_nothing_is_taken_from_the_disk(stack: Stack) -> None:
    await ready(stack)
    for site in stack.sites:
        (site.root / "static" / "registries.eager").write_text("an older one\n")
    site = stack.sites[0]
    site.running.stopping.set()
    await site.ended.wait()
    assert (await stack.front.get("/registries.eager")).text == f"{SAMPLE.registry.path}\n"


async def test_without_flavors_there_is_one_list(nursery: trio.Nursery, tmp_path: Path) -> None:
    settings = {**PLAIN, "PKG_SERVER_FLAVORLESS": "true"}
    async with stack_of(nursery, tmp_path, settings, JULIA_PKG_SERVER_FLAVORLESS="true") as stack:
        await ready(stack)
        by_server = await stack.front.get("/registries")
        await stop_servers(stack)
        by_nginx = await stack.front.get("/registries")
        assert (by_nginx.status_code, by_nginx.text) == (200, by_server.text)
        assert by_nginx.headers["Cache-Control"] == by_server.headers["Cache-Control"] == "no-cache"


async def test_a_second_install_needs_nginx_only(stack: Stack) -> None:
    await ready(stack)

    async def install() -> list[tuple[int, bytes]]:
        listed = await stack.front.get("/registries", follow_redirects=True)
        assert listed.status_code == 200
        paths = [*listed.text.split(), *(package.path for package in SAMPLE.packages), SAMPLE.artifact.path]
        answers = [await stack.front.get(path) for path in paths]
        return [(answer.status_code, answer.content) for answer in answers]

    first = await install()
    for site in stack.sites:
        await site.settle()
    await stop_servers(stack)
    assert await install() == first
    assert {status for status, _ in first} == {200}

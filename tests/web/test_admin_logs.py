"""`/admin/logs`: the log, live; whoever watches it costs the others nothing."""

from __future__ import annotations

import logging
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import structlog
import trio
from tests.log_state import restored_logs
from tests.web.raw import connected
from tests.web.site import PATIENCE_SECONDS, until
from tests.web.test_admin import ADMIN, TOKEN_SHA256

from pkgserver_trio.logs import hub as log_hub
from pkgserver_trio.logs.setup import configure_logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.web.raw import Head, RawClient
    from tests.web.site import Serve, Site

    from pkgserver_trio.demo.sample import Sample

AUTHORIZATION = "Authorization: Basic YWRtaW46czNjcjN0"
FAREWELL = b"0\r\n\r\n"  # the end of a chunked body


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    with restored_logs():
        yield


@pytest.fixture
async def site(serve: Serve, sample: Sample) -> Site:
    """Give a server whose own log is at the level `error`, and that is in no hurry to stop."""
    site = await serve(
        files=sample.files, PKGSERVER_GRACEFUL_SECONDS="60", JULIA_PKG_SERVER_ADMIN_TOKEN_SHA256=TOKEN_SHA256
    )
    configure_logs(partial(print, end="", file=sys.stderr), level="error", log_format="json", hub=site.running.hub)
    return site


@asynccontextmanager
async def watching(site: Site, query: str = "") -> AsyncIterator[tuple[RawClient, Head]]:
    async with connected(site.port) as raw:
        await raw.ask(f"/admin/logs{query}", AUTHORIZATION)
        yield raw, await raw.head()


async def seen(raw: RawClient, words: bytes) -> bytes:
    """Receive until `words` have come; return all that came."""
    text = b""
    with trio.fail_after(PATIENCE_SECONDS):
        while words not in text:
            piece = await raw.some()
            assert piece, text
            text += piece
    return text


async def test_lines_come_as_they_are_logged_until_the_client_leaves(site: Site) -> None:
    async with watching(site, "?level=debug&color=false") as (raw, head):
        assert (head.status, head.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        assert (head.headers["x-accel-buffering"], head.headers["cache-control"]) == ("no", "no-store")
        text = await seen(raw, b"the log is watched")
        structlog.get_logger().debug("first", size_bytes=5)
        text += await seen(raw, b"first")
        structlog.get_logger().debug("second")
        text += await seen(raw, b"second")
        assert b"\x1b" not in text
        assert site.running.hub.level == logging.DEBUG
    await until(lambda: site.running.hub.level > logging.CRITICAL)


@pytest.mark.parametrize("query", ["", "?level=info", "?color=true&level=info"])
async def test_by_default_they_are_in_colour_and_without_debug_lines(site: Site, query: str) -> None:
    async with watching(site, query) as (raw, _):
        structlog.get_logger().debug("hidden")
        structlog.get_logger().info("shown")
        text = await seen(raw, b"shown")
        assert b"hidden" not in text
        assert b"\x1b[" in text


@pytest.mark.parametrize("query", ["level=loud", "color=", "colour=false", "level=debug&level=x", "level=%FF"])
async def test_what_cannot_be_chosen_is_refused_with_what_can(site: Site, query: str) -> None:
    answer = await site.client.get(f"/admin/logs?{query}", auth=ADMIN)
    assert answer.status_code == 400
    assert "level (info, debug, warning, error) and color (true, false)" in answer.text


async def test_who_left_without_being_noticed_makes_room_for_others(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_hub, "MAX_WATCHERS", 1)
    async with watching(site) as (gone, _):
        await gone.stream.send_all(b"G")  # the server reads no further, and does not see the end that follows
        await gone.stream.send_eof()
        await until(lambda: len(site.running.server.connections) == 1)
        async with watching(site) as (raw, head):
            assert head.status == 200
            structlog.get_logger().info("shown")
            assert await seen(raw, b"shown")
            await until(lambda: len(site.running.server.connections) == 1)
        assert not (await gone.rest()).endswith(FAREWELL)


async def test_ten_watchers_and_one_who_takes_nothing_do_no_harm_to_requests(
    site: Site, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, body = sample.artifact.path, sample.files[sample.artifact.path]
    await site.warm(path)
    monkeypatch.setattr(log_hub, "MAX_WAITING", 100)
    texts = [b""] * 9

    async def watch(number: int, *, task_status: trio.TaskStatus[None]) -> None:
        async with watching(site, "?level=debug&color=false") as (raw, _):
            task_status.started()
            while b"round over 0" not in texts[number]:
                texts[number] = (texts[number] + await raw.some())[-100_000:]

    async with watching(site, "?level=debug&color=false") as (stalled, _), trio.open_nursery() as nursery:
        (watcher,) = site.running.hub._watchers
        for number in range(len(texts)):
            await nursery.start(watch, number)
        rounds = 0
        while watcher._lost < 1000:  # all buffers on its way are full by then
            rounds += 1
            for _ in range(50):
                structlog.get_logger().debug("noise", words="x" * 900)
            structlog.get_logger().debug(f"round over {rounds}.")
            answer = await site.client.get(path)
            assert answer.content == body
            await until(lambda: all(b"round over %d." % rounds in text for text in texts))  # noqa: B023 # called here only
            assert not any(b"are missing" in text for text in texts)
        structlog.get_logger().debug("round over 0")
        text = await seen(stalled, b"lines are missing here: they came faster than they were taken")
        assert text.count(b"noise") > 100


async def test_watchers_do_not_hold_up_the_end(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_hub, "_LAST_LINES_SECONDS", 0.2)
    hub: Any = site.running.hub
    async with watching(site, "?color=false") as (prompt, _), watching(site) as (stalled, _):
        watcher = hub._watchers[1]
        while not watcher._lost:
            for _ in range(100):
                structlog.get_logger().info("noise", words="x" * 900)
            await trio.lowlevel.checkpoint()
            await seen(prompt, b"noise")
        structlog.get_logger().info("last words")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(site.stop)  # it has 60 seconds, and PATIENCE_SECONDS to need less
            text = await prompt.rest()
        assert b"last words" in text
        assert text.endswith(FAREWELL)
        assert not (await stalled.rest()).endswith(FAREWELL)

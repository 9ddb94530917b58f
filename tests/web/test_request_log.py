"""One line for each request, and a name that it has here, in its answer, in its line and upstream."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import trio
from tests.log_state import restored_logs
from tests.web.raw import connected
from tests.web.site import halved, until

from pkgserver_trio.logs.setup import configure_logs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.web.site import Serve, Site
    from tests.web.tarball import Tarball

    from pkgserver_trio.demo.sample import Sample

NAMED = {"X-Request-ID": "client.1:a-b_C"}


class Log:
    """What is logged."""

    def __init__(self) -> None:
        self._written: list[str] = []
        self.put = self._written.append

    def lines(self, event: str = "request") -> list[dict[str, Any]]:
        return [line for line in map(json.loads, self._written) if line["event"] == event]

    async def line(self, path: str, event: str = "request") -> dict[str, Any]:
        """Return the newest line about `path`, once there is one: it is written when the client has its answer."""
        await until(lambda: any(line["path"] == path for line in self.lines(event)))
        return [line for line in self.lines(event) if line["path"] == path][-1]


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    with restored_logs():
        configure_logs(log.put, level="info", log_format="json")
        yield log


async def test_a_line_says_what_was_asked_and_answered(log: Log, site: Site) -> None:
    headers = {
        "Julia-Version": "1.11.1",
        "Julia-System": "x86_64-linux-gnu",
        "Julia-CI-Variables": "APPVEYOR=n;CI=t",
        "Julia-Interactive": "true",
    }
    answer = await site.client.get("/robots.txt?secret=1", headers=headers)
    line = await log.line("/robots.txt")
    del line["timestamp"]
    assert 0 < line.pop("seconds") < 20
    assert line == {
        "event": "request",
        "level": "info",
        "method": "GET",
        "path": "/robots.txt",
        "status": 200,
        "bytes": len(answer.content),
        "cache": "",
        "server": "",
        "julia": "1.11.1",
        "system": "x86_64-linux-gnu",
        "ci": True,
        "interactive": True,
        "peer": "127.0.0.1",
        "complete": True,
        "request_id": answer.headers["X-Request-ID"],
    }


async def test_hits_misses_and_coalesced_requests_are_told_apart(log: Log, serve: Serve, sample: Sample) -> None:
    path, body, release = sample.artifact.path, sample.files[sample.artifact.path], trio.Event()
    site = await serve(files=sample.files, script={("GET", path): halved(body, release)})
    async with connected(site.port) as first, connected(site.port) as second:
        for raw, name in ((first, "first"), (second, "second")):
            await raw.ask(path, f"X-Request-ID: {name}")
            await raw.head()
        release.set()
        for raw in (first, second):
            await raw.exactly(len(body))
    await site.settle()
    await site.client.get(path, headers={"X-Request-ID": "third"})
    await site.client.head(path, headers={"X-Request-ID": "fourth"})
    await until(lambda: len(log.lines()) == 4)
    told = {line["request_id"]: (line["cache"], line["server"], line["bytes"]) for line in log.lines()}
    assert told == {
        "first": ("miss", site.upstream.url, len(body)),
        "second": ("coalesced", site.upstream.url, len(body)),
        "third": ("hit", "", len(body)),
        "fourth": ("hit", "", 0),
    }


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_no_storage_server_has_is_a_miss_and_what_is_no_path_of_ours_is_told_too(
    log: Log, site: Site, method: str
) -> None:
    for path, cache in ((f"/artifact/{'0' * 40}", "miss"), ("/nowhere", "")):
        await site.client.request(method, path)
        line = await log.line(path)
        assert (line["method"], line["status"], line["cache"], line["server"]) == (method, 404, cache, "")


async def test_an_answer_that_the_client_did_not_wait_for_is_told_as_incomplete(
    log: Log, serve: Serve, large: Tarball
) -> None:
    site = await serve(files={large.path: large.body})
    await site.warm(large.path)
    async with connected(site.port) as raw:
        await raw.ask(large.path, "X-Request-ID: left")
        await raw.head()
    await until(lambda: len(log.lines()) == 3)  # two to warm it
    line = await log.line(large.path)
    assert (line["request_id"], line["status"], line["complete"]) == ("left", 200, False)
    assert line["bytes"] < len(large.body)


async def test_a_client_that_leaves_before_its_answer_has_a_line(log: Log, serve: Serve, sample: Sample) -> None:
    path, release = sample.artifact.path, trio.Event()
    site = await serve(script={("GET", path): halved(b"", release)}, files=sample.files)
    async with connected(site.port) as raw:
        await raw.ask(path)
        await site.upstream.wait_for("HEAD", path)
    line = await log.line(path)
    assert (line["status"], line["bytes"], line["complete"]) == (0, 0, False)
    release.set()


async def test_a_request_that_is_refused_has_a_line_and_a_name(log: Log, site: Site) -> None:
    async with connected(site.port) as raw:
        await raw.ask("/robots.txt?secret=1", "X-Request-ID: large", "Content-Length: 5000")
        head = await raw.head()
    assert (head.status, head.headers["x-request-id"]) == (413, "large")
    line = await log.line("/robots.txt", "request refused")
    assert (line["status"], line["method"], line["peer"], line["request_id"]) == (413, "GET", "127.0.0.1", "large")
    async with connected(site.port) as raw:
        await raw.stream.send_all(b"\0\r\n\r\n")
        head = await raw.head()
    line = await log.line("", "request refused")
    assert (line["status"], line["request_id"]) == (400, head.headers["x-request-id"])


async def test_a_name_is_taken_over_and_goes_with_every_answer_and_every_line(
    log: Log, site: Site, sample: Sample
) -> None:
    paths = ["/", "/registries", "/nowhere", sample.artifact.path, f"/artifact/{'0' * 40}", "/metrics"]
    for path in paths:
        for method in ("GET", "HEAD", "POST"):
            answer = await site.client.request(method, path, headers=NAMED)
            assert answer.headers.get_list("X-Request-ID") == [NAMED["X-Request-ID"]]
    await until(lambda: len(log.lines()) == 3 * len(paths))
    assert {line["request_id"] for line in log.lines()} == {NAMED["X-Request-ID"]}


async def test_without_a_good_name_each_request_gets_one(site: Site) -> None:
    names = set()
    for headers in ({}, {"X-Request-ID": ""}, {"X-Request-ID": "a b"}, {"X-Request-ID": "x" * 129}):
        names.add((await site.client.get("/healthz", headers=headers)).headers["X-Request-ID"])
    assert len(names) == 4
    assert all(re.fullmatch("[0-9a-f]{32}", name) for name in names)


async def test_the_probe_and_the_download_that_a_request_begins_bear_its_name_and_no_other_question_does(
    log: Log, serve: Serve, sample: Sample
) -> None:
    site = await serve(files=sample.files, ready=True)
    path = sample.artifact.path
    await site.client.get(path, headers=NAMED)
    await site.settle()
    seen = [request for request in site.upstream.seen if request.path == path]
    assert [(request.method, request.headers["x-request-id"]) for request in seen] == [
        ("HEAD", NAMED["X-Request-ID"]),
        ("GET", NAMED["X-Request-ID"]),
    ]
    others = [request for request in site.upstream.seen if request.path != path]
    assert others
    assert not any("x-request-id" in request.headers for request in others)
    (line,) = (line for line in log.lines("downloaded") if line["resource"] == path[1:])
    assert line["request_id"] == NAMED["X-Request-ID"]


async def test_a_download_keeps_the_name_of_the_request_that_began_it_when_its_client_has_left(
    log: Log, serve: Serve, sample: Sample
) -> None:
    path, body, release = sample.artifact.path, sample.files[sample.artifact.path], trio.Event()
    site = await serve(files=sample.files, script={("GET", path): halved(body, release)})
    async with connected(site.port) as raw:
        await raw.ask(path, "X-Request-ID: began")
        await raw.head()
    await until(lambda: not site.running.server.connections)
    release.set()
    await site.settle()
    assert [line["request_id"] for line in log.lines("downloaded") if line["resource"] == path[1:]] == ["began"]


async def test_what_a_client_says_of_itself_is_bounded(log: Log, site: Site) -> None:
    await site.client.get(f"/{'x' * 8000}", headers={"Julia-Version": "1" * 8000, "Julia-System": "x" * 8000})
    await until(log.lines)
    (line,) = log.lines()
    assert len(json.dumps(line)) < 2000

"""Answers while their resource is still arriving: shared, left, corrupt, and of a size that nobody knows yet."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio
from tests.web.raw import connected
from tests.web.site import PATIENCE_SECONDS, halved, until

if TYPE_CHECKING:
    from tests.fakes import Behaviour
    from tests.web.raw import RawClient
    from tests.web.site import Serve, Site
    from tests.web.tarball import Tarball

    from pkgserver_trio.demo.sample import Sample

CLIENTS = 200


async def receive_and_compare(raw: RawClient, body: bytes, start: int = 0) -> None:
    """Receive what is left of `body` from `start` on, holding no more than a piece of it."""
    offset = start
    while offset < len(body):
        piece = await raw.some()
        assert piece
        assert body.startswith(piece, offset)
        offset += len(piece)


async def test_200_clients_share_one_download_and_each_has_its_first_byte_before_the_last_arrives(
    serve: Serve, large: Tarball
) -> None:
    release = trio.Event()
    site = await serve(script={("GET", large.path): halved(large.body, release)}, files={large.path: large.body})
    begun = 0

    async def fetch() -> None:
        nonlocal begun
        async with connected(site.port) as raw:
            await raw.ask(large.path)
            assert (await raw.head()).headers["content-length"] == str(len(large.body))
            first = await raw.some()
            assert first
            assert large.body.startswith(first)
            begun += 1
            if begun == CLIENTS:
                release.set()
            await receive_and_compare(raw, large.body, len(first))

    with trio.fail_after(6 * PATIENCE_SECONDS):  # 4 GB, and the clients hash them
        async with trio.open_nursery() as clients:
            for _ in range(CLIENTS):
                clients.start_soon(fetch)
    assert site.upstream.requests("GET", large.path) == 1
    assert site.upstream.requests("HEAD", large.path) <= 1


@pytest.mark.parametrize("leaving", [1, 3])
async def test_clients_that_leave_midway_leave_the_flight_running(serve: Serve, sample: Sample, leaving: int) -> None:
    path, release = sample.artifact.path, trio.Event()
    site = await serve(script={("GET", path): halved(sample.files[path], release)}, files=sample.files)
    for _ in range(leaving):
        async with connected(site.port) as raw:
            await raw.ask(path)
            await raw.head()
            await raw.some()
    await until(lambda: not site.running.server.connections)
    assert path not in site.cached
    release.set()
    await site.settle()
    answer = await site.client.get(path)
    assert answer.content == sample.files[path]
    assert "X-Cache-Miss" not in answer.headers
    assert site.upstream.requests("GET", path) == 1


async def test_a_client_that_leaves_takes_nothing_from_one_that_stays(serve: Serve, sample: Sample) -> None:
    path, body, release = sample.artifact.path, sample.files[sample.artifact.path], trio.Event()
    site = await serve(script={("GET", path): halved(body, release)}, files=sample.files)
    async with connected(site.port) as staying:
        async with connected(site.port) as leaving:
            for raw in (leaving, staying):
                await raw.ask(path)
                await raw.head()
                await raw.exactly(100)
        await until(lambda: len(site.running.server.connections) == 1)
        release.set()
        await receive_and_compare(staying, body, 100)


def damaged(body: bytes) -> bytes:
    middle = len(body) // 2 + 100
    return body[:middle] + bytes([body[middle] ^ 0xFF]) + body[middle + 1 :]


CORRUPTIONS = ["another tree", "damaged gzip", "no last byte", "no last byte, chunked", "trailing garbage"]


def corrupted(kind: str, sample: Sample, release: trio.Event) -> Behaviour:
    body = sample.files[sample.artifact.path]
    right = halved(body, release)
    other = sample.files[sample.registry.path]
    match kind:
        case "another tree":
            return halved(other, release)
        case "damaged gzip":
            return halved(damaged(body), release)
        case "no last byte":
            return replace(right, close_at=len(body) - 1, etag=None)
        case "no last byte, chunked":
            return replace(right, close_at=len(body) - 1, etag=None, declared_length=None)
        case _:
            return halved(body + b"garbage", release)


async def receive_all(raw: RawClient, begun: trio.Event) -> tuple[int, int, bytes]:
    """Return status, announced length (-1: chunked) and what came; set `begun` when an answer begins."""
    head = await raw.head()
    begun.set()
    return head.status, int(head.headers.get("content-length", -1)), await raw.rest()


def is_complete(status: int, length: int, body: bytes) -> bool:
    return status in {200, 206} and (len(body) >= length if length >= 0 else body.endswith(b"0\r\n\r\n"))


@pytest.mark.parametrize("kind", CORRUPTIONS)
async def test_what_is_corrupt_is_never_received_whole_and_never_cached(
    serve: Serve, sample: Sample, kind: str
) -> None:
    path, release = sample.artifact.path, trio.Event()
    site = await serve(script={("GET", path): corrupted(kind, sample, release)}, files=sample.files)
    answers: list[tuple[int, int, bytes]] = []

    begun = trio.Event()

    async def fetch(line: str, version: str = "1.1") -> None:
        async with connected(site.port) as raw:
            await raw.ask(path, "Connection: close", line, version=version)
            answers.append(await receive_all(raw, begun))

    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as clients:
            clients.start_soon(fetch, "Accept: */*")
            await begun.wait()
            for line in ("Range: bytes=0-9", "Range: bytes=100-", "Range: bytes=-9", "Accept: */*"):
                clients.start_soon(fetch, line)
            clients.start_soon(fetch, "Accept: */*", "1.0")
            await until(lambda: len(site.running.server.connections) == 6)
            release.set()
    assert len(answers) == 6
    assert not [status for status, length, body in answers if is_complete(status, length, body)]
    await site.settle()
    assert path not in site.cached
    assert site.unfinished == []


async def test_the_last_byte_of_a_range_waits_for_the_verification_of_the_whole(serve: Serve, sample: Sample) -> None:
    path, release = sample.artifact.path, trio.Event()
    body = damaged(sample.files[path])
    site = await serve(script={("GET", path): halved(body, release)}, files=sample.files)
    async with connected(site.port) as whole, connected(site.port) as part:
        await whole.ask(path)
        await whole.head()
        await whole.exactly(100)  # more of the body is there than the range wants
        await part.ask(path, "Range: bytes=0-9", "Connection: close")
        assert (await part.head()).headers["content-length"] == "10"
        assert await part.exactly(9) == body[:9]
        release.set()
        assert await part.rest() == b""


async def test_a_range_of_one_byte_waits_for_the_verification_of_the_whole(serve: Serve, sample: Sample) -> None:
    path, release = sample.artifact.path, trio.Event()
    broken = halved(damaged(sample.files[path]), release)
    site = await serve(script={("GET", path): broken}, files=sample.files)
    async with connected(site.port) as whole, connected(site.port) as part:
        await whole.ask(path)
        await whole.head()
        await part.ask(path, "Range: bytes=0-0", "Connection: close")
        await until(lambda: len(site.running.server.connections) == 2)
        release.set()
        assert not is_complete(*await receive_all(part, trio.Event()))


async def open_unsized(serve: Serve, sample: Sample, release: trio.Event) -> Site:
    path = sample.artifact.path
    unsized = replace(halved(sample.files[path], release), declared_length=None)
    return await serve(script={("GET", path): unsized}, files=sample.files)


async def test_an_unknown_size_is_chunked_to_http_1_1_as_it_arrives(serve: Serve, sample: Sample) -> None:
    path, release = sample.artifact.path, trio.Event()
    site = await open_unsized(serve, sample, release)
    async with site.client.stream("GET", path) as answer:
        assert answer.headers["Transfer-Encoding"] == "chunked"
        assert not {"content-length", "etag"} & set(answer.headers)
        pieces = answer.aiter_raw()
        body = await anext(pieces)
        release.set()
        async for piece in pieces:
            body += piece
    assert body == sample.files[path]


async def test_http_1_0_waits_for_an_unknown_size(serve: Serve, sample: Sample) -> None:
    path, body, release = sample.artifact.path, sample.files[sample.artifact.path], trio.Event()
    site = await open_unsized(serve, sample, release)
    async with connected(site.port) as raw:
        await raw.ask(path, version="1.0")
        await site.upstream.wait_for("GET", path)
        release.set()
        head = await raw.head()
        assert head.headers["content-length"] == str(len(body))
        assert "transfer-encoding" not in head.headers
        assert await raw.rest() == body


async def test_a_range_waits_for_an_unknown_size(serve: Serve, sample: Sample) -> None:
    path, body, release = sample.artifact.path, sample.files[sample.artifact.path], trio.Event()
    release.set()
    site = await open_unsized(serve, sample, release)
    answer = await site.client.get(path, headers={"Range": "bytes=-1000"})
    assert answer.status_code == 206
    assert answer.headers["Content-Length"] == "1000"
    assert answer.content == body[-1000:]

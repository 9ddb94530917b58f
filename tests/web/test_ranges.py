"""Range and conditional requests, of what is cached and of what is still arriving."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from tests.fakes import good
from tests.web.raw import connected
from tests.web.site import PATIENCE_SECONDS, halved

if TYPE_CHECKING:
    from tests.web.raw import Head
    from tests.web.site import Serve, Site

    from pkgserver_trio.demo.sample import Sample

#: A range, and the slice that it stands for, of a body of any size from 300 bytes on.
SATISFIABLE = {
    "bytes=0-0": slice(0, 1),
    "bytes=0-299": slice(0, 300),
    "bytes=17-99": slice(17, 100),
    "bytes=100-": slice(100, None),
    "bytes=0-": slice(0, None),
    "bytes=-1": slice(-1, None),
    "bytes=-300": slice(-300, None),
    "bytes=-999999999999": slice(0, None),
    "bytes=200-999999999999": slice(200, None),
    "BYTES=1-2": slice(1, 3),
}
UNSATISFIABLE = ["bytes=999999999-", "bytes=5-4", "bytes=-0", "bytes=999999999-9999999999"]
IGNORED = ["bytes=0-1,4-5", "bytes=", "bytes=-", "bytes=a-b", "lines=0-1", "bytes=0-1x", "0-1", f"bytes=0-{'9' * 40}"]


def assert_slice(status: int, headers: dict[str, str], got: bytes, body: bytes, wanted: slice) -> None:
    start, stop, _ = wanted.indices(len(body))
    assert status == 206
    assert headers["content-range"] == f"bytes {start}-{stop - 1}/{len(body)}"
    assert headers["content-length"] == str(stop - start)
    assert got == body[wanted]


@pytest.fixture
async def cached(site: Site, sample: Sample) -> Site:
    """Give a server whose artifact is cached."""
    await site.warm(sample.artifact.path)
    return site


async def test_a_range_of_a_hit_is_the_python_slice(cached: Site, sample: Sample) -> None:
    body = sample.files[sample.artifact.path]
    for text, wanted in SATISFIABLE.items():
        answer = await cached.client.get(sample.artifact.path, headers={"Range": text})
        assert_slice(answer.status_code, dict(answer.headers), answer.content, body, wanted)
        assert "ETag" in answer.headers


async def test_a_range_that_selects_nothing_of_a_hit_is_416_with_the_size(cached: Site, sample: Sample) -> None:
    size = len(sample.files[sample.artifact.path])
    for text in (*UNSATISFIABLE, f"bytes={size}-"):
        answer = await cached.client.get(sample.artifact.path, headers={"Range": text})
        assert answer.status_code == 416
        assert answer.headers["Content-Range"] == f"bytes */{size}"
        assert answer.content == b""


@pytest.mark.parametrize("text", IGNORED)
async def test_a_range_that_is_none_or_several_is_ignored(cached: Site, sample: Sample, text: str) -> None:
    answer = await cached.client.get(sample.artifact.path, headers={"Range": text})
    assert answer.status_code == 200
    assert answer.content == sample.files[sample.artifact.path]


async def test_a_range_of_a_running_download_is_the_python_slice(serve: Serve, sample: Sample) -> None:
    path, body, release = sample.artifact.path, sample.files[sample.artifact.path], trio.Event()
    site = await serve(script={("GET", path): halved(body, release)}, files=sample.files)
    answers: dict[str, tuple[Head, bytes]] = {}

    async def fetch(text: str) -> None:
        async with connected(site.port) as raw:
            await raw.ask(path, f"Range: {text}", "Connection: close")
            answers[text] = await raw.head(), await raw.rest()

    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as clients:
            for text in SATISFIABLE:
                clients.start_soon(fetch, text)
            await site.upstream.wait_for("GET", path)
            release.set()
    for text, wanted in SATISFIABLE.items():
        head, got = answers[text]
        assert_slice(head.status, dict(head.headers), got, body, wanted)
        assert head.headers["x-cache-miss"] == "miss"
    assert site.upstream.requests("GET", path) == 1


async def test_a_running_download_answers_a_range_before_it_is_whole(serve: Serve, sample: Sample) -> None:
    path, body, release = sample.artifact.path, sample.files[sample.artifact.path], trio.Event()
    site = await serve(script={("GET", path): halved(body, release)}, files=sample.files)
    async with connected(site.port) as raw:
        await raw.ask(path, "Range: bytes=100-199")
        assert (await raw.head()).headers["content-range"] == f"bytes 100-199/{len(body)}"
        assert await raw.exactly(99) == body[100:199]
        release.set()
        assert await raw.exactly(1) == body[199:200]


async def test_an_unsatisfiable_range_of_a_running_download_is_refused_once_its_size_is_sure(
    serve: Serve, sample: Sample
) -> None:
    path, body = sample.artifact.path, sample.files[sample.artifact.path]
    site = await serve(files=sample.files)
    answer = await site.client.get(path, headers={"Range": f"bytes={len(body)}-"})
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{len(body)}"


@pytest.mark.parametrize(
    ("headers", "junk"),
    [
        ({}, b""),
        ({"Range": "bytes=0-"}, b""),
        ({"If-None-Match": "*"}, b""),
        ({"If-None-Match": "*"}, b"junk"),
        ({"Range": "bytes=5000-"}, b"junk"),
    ],
)
async def test_an_answer_without_a_body_never_rests_on_an_unverified_download(
    serve: Serve, sample: Sample, headers: dict[str, str], junk: bytes
) -> None:
    path = sample.artifact.path
    site = await serve(script={("GET", path): good(junk)}, files=sample.files)
    answer = await site.client.get(path, headers=headers)
    assert answer.status_code == 502
    assert "Retry-After" in answer.headers
    assert site.upstream.requests("GET", path) == 1


async def test_head_tells_what_a_range_would_get(cached: Site, sample: Sample) -> None:
    answer = await cached.client.head(sample.artifact.path, headers={"Range": "bytes=10-19"})
    assert (answer.status_code, answer.headers["Content-Length"]) == (206, "10")
    assert answer.content == b""


@pytest.mark.parametrize("validator", ["ETag", "Last-Modified"])
async def test_if_range_that_matches_lets_the_range_be(cached: Site, sample: Sample, validator: str) -> None:
    known = (await cached.client.head(sample.artifact.path)).headers[validator]
    answer = await cached.client.get(sample.artifact.path, headers={"Range": "bytes=0-9", "If-Range": known})
    assert answer.status_code == 206


@pytest.mark.parametrize("validator", ['"other"', "Sun, 06 Nov 1994 08:49:37 GMT", "nonsense"])
async def test_if_range_that_does_not_match_gets_the_whole(cached: Site, sample: Sample, validator: str) -> None:
    answer = await cached.client.get(sample.artifact.path, headers={"Range": "bytes=0-9", "If-Range": validator})
    assert answer.status_code == 200
    assert answer.content == sample.files[sample.artifact.path]


async def test_a_weak_tag_in_if_range_never_matches(cached: Site, sample: Sample) -> None:
    weak = "W/" + (await cached.client.head(sample.artifact.path)).headers["ETag"]
    answer = await cached.client.get(sample.artifact.path, headers={"Range": "bytes=0-9", "If-Range": weak})
    assert answer.status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_the_client_has_already_is_304(cached: Site, sample: Sample, method: str) -> None:
    known = (await cached.client.head(sample.artifact.path)).headers
    for condition in (
        {"If-None-Match": known["ETag"]},
        {"If-None-Match": f'"other", W/{known["ETag"]}'},
        {"If-None-Match": "*"},
        {"If-Modified-Since": known["Last-Modified"]},
        {"If-None-Match": known["ETag"], "Range": "bytes=0-9"},
    ):
        answer = await cached.client.request(method, sample.artifact.path, headers=condition)
        assert answer.status_code == 304
        assert answer.headers["ETag"] == known["ETag"]
        assert answer.content == b""


async def test_what_the_client_has_not_is_sent(cached: Site, sample: Sample) -> None:
    date = (await cached.client.head(sample.artifact.path)).headers["Last-Modified"]
    for condition in (
        {"If-None-Match": '"other"'},
        {"If-None-Match": '"other"', "If-Modified-Since": date},
        {"If-Modified-Since": "Sun, 06 Nov 1994 08:49:37 GMT"},
    ):
        answer = await cached.client.get(sample.artifact.path, headers=condition)
        assert answer.content == sample.files[sample.artifact.path]

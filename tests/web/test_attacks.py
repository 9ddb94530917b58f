"""What hostile upstreams and clients once did to the server, kept from happening again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from tests.fakes import Behaviour, good, redirect
from tests.web.raw import connected
from tests.web.site import PATIENCE_SECONDS, until

if TYPE_CHECKING:
    from tests.fakes import Request, Script
    from tests.web.site import Serve
    from tests.web.tarball import Tarball

    from pkgserver_trio.demo.sample import Sample

NEVER = "600"


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(body=b"x" * 1000, close_at=0),
        Behaviour(body=b"x" * 1000, reset_at=0),
        good(b"x"),
        Behaviour(body=b"", declared_length=None),
        Behaviour(status=200, body=b"", headers={"content-length": "0"}),
    ],
)
@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=-1"}, {"Range": "bytes=0-0"}])
async def test_a_download_that_fails_without_a_byte_is_answered_once_and_not_tried_again(
    serve: Serve, sample: Sample, behaviour: Behaviour, headers: dict[str, str]
) -> None:
    path = sample.artifact.path
    site = await serve(script={("GET", path): behaviour}, files=sample.files)
    answer = await site.client.get(path, headers=headers)
    assert answer.status_code == 502
    assert site.upstream.requests("GET", path) == 1
    assert path not in site.cached


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(body=b"", headers={"etag": '"\xe9"'}),
        redirect("http://a..b/registries"),
        redirect(f"http://{'a' * 70}.invalid/"),
        redirect("http://[/"),
        Behaviour(body=b"\xff\xfe" * 100),
        Behaviour(body=b"<html>Please log in</html>"),
    ],
)
async def test_a_listing_that_is_none_ends_no_service(serve: Serve, sample: Sample, behaviour: Behaviour) -> None:
    def script(request: Request) -> Behaviour | None:
        return behaviour if request.path.startswith("/registries") else None

    site = await serve(script=script, files=sample.files)
    with trio.fail_after(PATIENCE_SECONDS):
        await site.upstream.wait_for("GET", "/registries.eager", count=4)
    report = await site.client.get("/readyz")
    assert report.status_code == 503
    assert all(
        poll["error"] for flavor in report.json()["registries"].values() for poll in flavor["storage_servers"].values()
    )
    assert (await site.client.get(sample.artifact.path)).content == sample.files[sample.artifact.path]


async def test_pipelining_clients_that_vanish_free_their_connections(serve: Serve, large: Tarball) -> None:
    site = await serve(files={large.path: large.body}, PKGSERVER_REQUEST_HEAD_SECONDS=NEVER)
    await site.warm(large.path)
    for _ in range(4):
        async with connected(site.port) as raw:
            await raw.ask(large.path)
            await raw.ask(large.path)
            await raw.head()
    await until(lambda: len(site.running.server.connections) <= 1)  # the site's own client keeps one


async def test_pipelined_request_behind_an_answer_that_breaks_off_gets_nothing(serve: Serve, large: Tarball) -> None:
    damaged = good(large.body[:-8] + bytes(8))
    site = await serve(script={("GET", large.path): damaged}, PKGSERVER_REQUEST_HEAD_SECONDS=NEVER)
    site.upstream.script = {("HEAD", large.path): good(large.body), ("GET", large.path): damaged}
    async with connected(site.port) as raw:
        await raw.ask(large.path)
        await raw.ask("/healthz")
        await raw.head()
        rest = await raw.rest()
    assert len(rest) < len(large.body)
    assert b"HTTP/1.1" not in rest
    await until(lambda: not site.running.server.connections)


async def test_validators_of_a_broken_answer_match_no_other_bytes(serve: Serve, large: Tarball) -> None:
    wrong, right = good(large.body[:-8] + bytes(8)), good(large.body)
    script: Script = {("HEAD", large.path): right, ("GET", large.path): [wrong, right]}
    site = await serve(script=script)
    async with connected(site.port) as raw:
        await raw.ask(large.path)
        etag = (await raw.head()).headers["etag"]
        await raw.rest()
    await site.settle()
    resumed = await site.get_after_pause(large.path, headers={"Range": "bytes=100-", "If-Range": etag})
    assert resumed.status_code == 200, "the rest of other bytes would have been spliced in"
    assert resumed.content == large.body


@pytest.mark.parametrize("target", ["?x", "*", "http://[/x", "http://x/x", "/" + "a" * 5000, "/%00", "/\xff"])
async def test_odd_request_targets_are_refused(serve: Serve, target: str) -> None:
    site = await serve()
    async with connected(site.port) as raw:
        await raw.ask(target)
        assert (await raw.head()).status in {400, 404}
    assert (await site.client.get("/healthz")).status_code == 200


async def test_absolute_form_of_a_target_is_understood(serve: Serve) -> None:
    site = await serve()
    async with connected(site.port) as raw:
        await raw.ask("http://pkg.example/healthz")
        assert (await raw.head()).status == 200

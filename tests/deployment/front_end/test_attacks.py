"""What a client sends that is no good to anybody: it gets no other bytes than others do, and nobody else's answer."""

from __future__ import annotations

import ssl
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import httpx
import pytest
from tests.behaviours import Behaviour, good
from tests.deployment.front_end.conftest import SAMPLE, address, front_before, secure_front, upstreams
from tests.web.raw import connected
from tests.web.site import until

from pkgserver_trio.hits.lines import parse_hits

if TYPE_CHECKING:
    from pathlib import Path

    from tests.deployment.front_end.conftest import Stack

pytestmark = pytest.mark.integration

ARTIFACT, PACKAGE, REGISTRY = SAMPLE.artifact.path, SAMPLE.packages[0].path, SAMPLE.registry.path
ANYTHING = Behaviour(body=b"something")
#: Of the fields of the access log six are quoted.
QUOTES_OF_A_LINE = 12
SECURE = {"PKG_SERVER_FQDN": "pkg.example.org", "TLS_CERTIFICATES_DIR": "own"}
#: Beginnings of requests that whoever is behind could read in another way, and then find a second request.
AMBIGUOUS = {
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "one length twice": b"POST /meta HTTP/1.1\r\nHost: a.b\r\nContent-Length: 0\r\nContent-Length: 40\r\n\r\n",
    "a signed length": b"POST /meta HTTP/1.1\r\nHost: a.b\r\nContent-Length: +0\r\n\r\n",
    "a coding after a space": b"POST /meta HTTP/1.1\r\nHost: a.b\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": b"POST /meta HTTP/1.1\r\nHost: a.b\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two codings": b"POST /meta HTTP/1.1\r\nHost: a.b\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"POST /meta HTTP/1.0\r\nHost: a.b\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "no chunk": b"POST /meta HTTP/1.1\r\nHost: a.b\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    "a folded line": b"GET /meta HTTP/1.1\r\nHost: a.b\r\nX-A: 1\r\n X-Real-IP: 203.0.113.9\r\n\r\n",
    "a bare CR": b"GET /meta HTTP/1.1\r\nHost: a.b\r\nX-A: 1\rX-Real-IP: 203.0.113.9\r\n\r\n",
    "NUL": b"GET /meta HTTP/1.1\r\nHost: a.b\r\nX-A: \x00\r\n\r\n",
    "two hosts": b"GET /meta HTTP/1.1\r\nHost: a.b\r\nHost: c.d\r\n\r\n",
    "a host with a path": b"GET /meta HTTP/1.1\r\nHost: a.b/c\r\n\r\n",
    "a space in the path": b"GET /meta x HTTP/1.1\r\nHost: a.b\r\n\r\n",
    "a tunnel": b"CONNECT a.b:80 HTTP/1.1\r\nHost: a.b:80\r\n\r\n",
    "HTTP/2 in the open": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}
SECOND = b"GET /admin HTTP/1.1\r\nHost: a.b\r\n\r\n"


@pytest.mark.parametrize("beginning", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
async def test_what_can_be_read_in_two_ways_is_read_in_none(tmp_path: Path, beginning: bytes) -> None:
    async with (
        upstreams(lambda _: ANYTHING) as (first, second),
        front_before(tmp_path, address(first), address(second)) as (ours, _),
        connected(ours.ports[8000]) as raw,
    ):
        await raw.stream.send_all(beginning + SECOND)
        assert (await raw.head()).status in {400, 405, 501, 505}
        assert b" 200 " not in await raw.rest()
        assert not first.seen + second.seen


async def test_requests_in_one_go_get_each_its_own_answer(stack: Stack) -> None:
    await stack.warm(ARTIFACT)
    told = {ARTIFACT: SAMPLE.files[ARTIFACT], "/robots.txt": b"User-agent: *\nDisallow: /\n", "/none": b"not found\n"}
    asked = [ARTIFACT, "/robots.txt", "/none", ARTIFACT]
    async with connected(stack.front_end.ports[8000]) as raw:
        for path in asked:
            await raw.ask(path)
        for path in asked:
            size = int((await raw.head()).headers["content-length"])
            assert await raw.exactly(size) == told[path]


@pytest.mark.parametrize("path", [f"/{ARTIFACT}", ARTIFACT.replace("a", "%61", 1), f"{ARTIFACT}%0a"])
@pytest.mark.parametrize("lent", ["", "bytes=0-", "bytes=0-1"])
async def test_a_range_lends_its_request_no_path(stack: Stack, path: str, lent: str) -> None:
    await stack.warm(ARTIFACT)
    async with connected(stack.front_end.ports[8000]) as raw:
        await raw.ask(path, f"Range: {lent} {ARTIFACT}?", 'If-Range: "other"')
        assert (await raw.head()).status == 404


async def test_where_an_answer_has_no_head_there_is_none(stack: Stack) -> None:
    await stack.warm(ARTIFACT)
    for path in (ARTIFACT, "/robots.txt"):
        async with connected(stack.front_end.ports[8000]) as raw:
            await raw.stream.send_all(f"GET {path}\r\n".encode())
            assert await raw.rest() == b""


async def test_what_a_link_in_a_cache_leads_to_is_no_hit(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    for path in (ARTIFACT, PACKAGE, REGISTRY):
        (elsewhere / path[1:]).parent.mkdir(parents=True)
        (elsewhere / path[1:]).write_bytes(b"not verified")
    for store, path in (("store1", ARTIFACT), ("store2", PACKAGE)):
        cache = tmp_path / store / "cache"
        (cache / path[1:]).parent.mkdir(parents=True)
        (cache / path[1:]).symlink_to(elsewhere / path[1:])
        (cache / "registry").symlink_to(elsewhere / "registry")
    async with (
        upstreams(lambda _: ANYTHING) as (first, second),
        front_before(tmp_path, address(first), address(second)) as (_, front),
    ):
        for path in (ARTIFACT, PACKAGE, REGISTRY):
            assert (await front.get(path)).content == b"something"


@pytest.mark.parametrize("length", ["true", None])
async def test_what_breaks_off_is_not_completed_by_the_other_server(
    tmp_path: Path, length: Literal["true"] | None
) -> None:
    broken = Behaviour(body=b"x" * 1000, declared_length=length, close_at=500)
    async with (
        upstreams(lambda _: broken) as (first, second),
        secure_front(tmp_path, SECURE, address(first), address(second)) as (ours, _),
    ):
        trusting = ssl.create_default_context(cafile=tmp_path / "certificates" / "fullchain.pem")
        async with httpx.AsyncClient(http2=True, verify=trusting, trust_env=False) as client:
            for port, scheme in ((443, "https"), (8000, "http")):
                with pytest.raises(httpx.RemoteProtocolError):
                    await client.get(f"{scheme}://127.0.0.1:{ours.ports[port]}{ARTIFACT}")
        assert len(first.seen + second.seen) == 2


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("length", ["true", None])
async def test_wrong_bytes_of_a_storage_server_are_never_a_whole_answer(
    stack: Stack, version: str, length: Literal["true"] | None
) -> None:
    wrong = b"\x1f\x8b" + b"x" * 300_000
    for site in stack.sites:
        site.upstream.script = {("GET", ARTIFACT): replace(good(wrong), declared_length=length)}
    async with connected(stack.front_end.ports[8000]) as raw:
        await raw.ask(ARTIFACT, "Connection: close", version=version)
        head = await raw.head()
        body = await raw.rest()
    if head.status == 200:
        announced = head.headers.get("content-length")
        assert len(body) < int(announced) if announced else not body.endswith(b"\r\n0\r\n\r\n")
    else:
        assert head.status == 502
        assert head.headers["cache-control"] == "no-store"
    assert not [path for site in stack.sites for path in site.root.glob(f"cache{ARTIFACT}")]


async def test_no_client_begins_a_line_of_a_log(stack: Stack) -> None:
    await stack.warm(ARTIFACT)
    line = f"1700000000.000 200 9 GET {ARTIFACT}"
    async with connected(stack.front_end.ports[8000]) as raw:
        path = f"/artifact/x%0a{line.replace(' ', '%20')}%0a"
        await raw.ask(path, f'User-Agent: x"\t{line}', "Content-Length: 2000")
        assert (await raw.head()).status == 413
    assert (await stack.front.get(ARTIFACT)).status_code == 200
    hits = stack.front_end.folder / "hits" / "1" / "hits.log"
    access = stack.front_end.logs / "access_pkg.example.org.log"
    await until(lambda: hits.read_bytes().count(b"\n") == access.read_bytes().count(b"\n") == 2)
    harvest = parse_hits(hits.read_bytes())
    assert ([hit.resource.path for hit in harvest.hits], harvest.garbage) == ([ARTIFACT], [])
    assert access.read_bytes().count(b'"') == 2 * QUOTES_OF_A_LINE

"""Who gets in by which port, and how much of it."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
from tests.behaviours import Behaviour, Pieces
from tests.deployment.front_end.conftest import SAMPLE, address, front_before, secure_front, upstreams
from tests.deployment.front_end.running import PLAIN
from tests.web.raw import connected

if TYPE_CHECKING:
    from pathlib import Path

    from tests.deployment.front_end.conftest import Stack

pytestmark = pytest.mark.integration

ARTIFACT = SAMPLE.artifact.path
ANYTHING = Behaviour(body=b"something")
SECURE = {"PKG_SERVER_FQDN": "pkg.example.org", "TLS_CERTIFICATES_DIR": "own"}
BEHIND_A_PROXY = {**PLAIN, "FRONTEND_PROXIES": "127.0.0.1"}
MANY = 30


async def test_over_tls_all_is_there_and_port_80_leads_to_it(tmp_path: Path) -> None:
    async with (
        upstreams(lambda _: ANYTHING) as servers,
        secure_front(tmp_path, SECURE, *map(address, servers)) as (
            ours,
            front,
        ),
    ):
        assert (await front.get("/admin")).content == b"something"
        assert servers[0].seen[-1].headers["x-forwarded-proto"] == "https"
        for port, host in ((80, "pkg.example.org"), (80, "elsewhere.example")):
            moved = await front.get(f"http://127.0.0.1:{ours.ports[port]}{ARTIFACT}?a=b", headers={"Host": host})
            assert (moved.status_code, moved.headers["Location"]) == (301, f"https://pkg.example.org{ARTIFACT}?a=b")


async def test_a_name_of_ours_is_kept_on_the_way_to_https(tmp_path: Path) -> None:
    settings = {**SECURE, "PKG_SERVER_REGION": "eu"}
    async with (
        upstreams(lambda _: ANYTHING) as servers,
        secure_front(tmp_path, settings, *map(address, servers)) as (
            ours,
            front,
        ),
    ):
        name = "pkgserver-eu.ipv4.cflo.at"
        moved = await front.get(f"http://127.0.0.1:{ours.ports[80]}/meta", headers={"Host": f"{name}:80"})
        assert moved.headers["Location"] == f"https://{name}/meta"


async def test_acme_is_answered_in_the_open(tmp_path: Path) -> None:
    async with secure_front(tmp_path, SECURE) as (ours, front):
        challenge = ours.folder / "webroot" / ".well-known" / "acme-challenge" / "token"
        challenge.parent.mkdir(parents=True)
        challenge.write_text("token.thumbprint")
        answer = await front.get(f"http://127.0.0.1:{ours.ports[80]}/.well-known/acme-challenge/token")
        assert (answer.status_code, answer.text) == (200, "token.thumbprint")
        outside = await front.get(f"http://127.0.0.1:{ours.ports[80]}/.well-known/acme-challenge/../../x")
        assert outside.status_code in {301, 404}


async def test_port_8000_stays_open_in_plain_http_but_for_the_admin(tmp_path: Path) -> None:
    async with (
        upstreams(lambda _: ANYTHING) as servers,
        secure_front(tmp_path, SECURE, *map(address, servers)) as (
            ours,
            front,
        ),
    ):
        plain = f"http://127.0.0.1:{ours.ports[8000]}"
        assert (await front.get(f"{plain}/registries")).content == b"something"
        refused = await front.get(f"{plain}/admin/flights")
        assert (refused.status_code, refused.text) == (403, "only over https\n")
        assert len(servers[0].seen) == 1


async def test_without_tls_port_80_serves_like_port_8000(tmp_path: Path) -> None:
    async with upstreams(lambda _: ANYTHING) as servers:
        for port in (80, 8000):
            async with front_before(tmp_path / str(port), *map(address, servers), port=port) as (_, front):
                for path in (ARTIFACT, "/registries", "/admin"):
                    assert (await front.get(path)).content == b"something"


async def test_nobody_is_limited_unless_told(tmp_path: Path) -> None:
    async with upstreams(lambda _: ANYTHING) as servers, front_before(tmp_path, *map(address, servers)) as (_, front):
        assert {(await front.get("/meta")).status_code for _ in range(MANY)} == {200}


async def test_requests_are_limited_by_address_but_those_of_who_is_exempt(tmp_path: Path) -> None:
    settings = {**BEHIND_A_PROXY, "LIMIT_REQUESTS_PER_SECOND": "1", "LIMIT_EXEMPT": "192.0.2.0/24,2001:db8::/32"}

    async def refused(*peers: str) -> int:
        answers = [await front.get("/meta", headers={"X-Forwarded-For": peer}) for peer in peers]
        assert {answer.status_code for answer in answers} <= {200, 429}
        return sum(answer.status_code == 429 for answer in answers)

    async with (
        upstreams(lambda _: ANYTHING) as servers,
        front_before(tmp_path, *map(address, servers), settings=settings) as (_, front),
    ):
        assert await refused(*["203.0.113.9"] * MANY) > 0
        assert await refused(*(f"203.0.113.{last}" for last in range(100, 100 + MANY))) == 0
        assert await refused(*["192.0.2.7"] * MANY, *["2001:db8::1"] * MANY) == 0
        # Who has one address of IPv6 has all of its /64.
        assert await refused(*(f"2001:db9::{last:x}" for last in range(1, MANY))) > 0
        assert await refused(*(f"2001:db9:0:{last:x}::1" for last in range(1, MANY))) == 0


async def test_connections_are_limited_by_address(tmp_path: Path) -> None:
    release = trio.Event()
    slow = Behaviour(body=b"ab", pieces=Pieces(size=1, release=release))
    settings = {**BEHIND_A_PROXY, "LIMIT_CONNECTIONS": "1"}
    async with (
        upstreams(lambda _: slow) as servers,
        front_before(tmp_path, *map(address, servers), settings=settings) as (_, front),
        front.stream("GET", ARTIFACT, headers={"X-Forwarded-For": "203.0.113.9"}) as answer,
    ):
        assert answer.status_code == 200
        second = await front.get(ARTIFACT, headers={"X-Forwarded-For": "203.0.113.9"})
        assert second.status_code == 429
        async with front.stream("GET", ARTIFACT, headers={"X-Forwarded-For": "203.0.113.10"}) as other:
            assert other.status_code == 200
            release.set()


async def test_a_request_that_does_not_come_to_its_end_is_ended(tmp_path: Path) -> None:
    soon = {"client_header_timeout 10s": "client_header_timeout 100ms"}
    async with (
        upstreams({}) as servers,
        front_before(tmp_path, *map(address, servers), places=soon) as (ours, _),
        connected(ours.ports[8000]) as raw,
    ):
        await raw.stream.send_all(b"GET / HTTP/1.1\r\nHost: pkg.example.org\r\n")
        with trio.fail_after(20):
            assert not await raw.rest()


async def test_a_body_that_nobody_needs_is_refused(stack: Stack) -> None:
    answers = [await stack.front.post("/registries", content=b"x" * size) for size in (1024, 1025)]
    assert [answer.status_code for answer in answers] == [405, 413]


async def test_over_tls_it_is_http_2(tmp_path: Path) -> None:
    async with (
        upstreams(lambda _: ANYTHING) as servers,
        secure_front(tmp_path, SECURE, *map(address, servers)) as (
            ours,
            _,
        ),
    ):
        trusting = ssl.create_default_context(cafile=tmp_path / "certificates" / "fullchain.pem")
        async with httpx.AsyncClient(http2=True, verify=trusting, trust_env=False) as client:
            answers = [await client.get(f"https://127.0.0.1:{ours.ports[443]}{path}") for path in (ARTIFACT, "/meta")]
            in_the_open = await client.get(f"http://127.0.0.1:{ours.ports[8000]}/meta")
    assert [(answer.http_version, answer.content) for answer in answers] == [("HTTP/2", b"something")] * 2
    assert in_the_open.http_version == "HTTP/1.1"

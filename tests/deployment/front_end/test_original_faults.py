"""What the original deployment got wrong: each fault is shown by a small nginx that has it, and is not in ours."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
from tests.behaviours import Behaviour
from tests.conftest import require
from tests.deployment.front_end.conftest import SAMPLE, address, front_before, secure_front, upstreams
from tests.deployment.front_end.name_server import NameServer
from tests.deployment.front_end.running import PLAIN, running_faulty
from tests.fakes import FakeUpstream, refusing_url
from tests.web.raw import connected
from tests.web.site import PATIENCE_SECONDS

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tests.deployment.front_end.conftest import Stack

pytestmark = pytest.mark.integration

ARTIFACT = SAMPLE.artifact.path
SPLITTING = "/registry/%0d%0aSet-Cookie:%20x=1"
#: The same file to who decodes and normalises, and nothing to who does not.
DISGUISES = [
    f"/{ARTIFACT}",
    f"//{ARTIFACT}",
    ARTIFACT.replace("/artifact/", "/artifact//"),
    ARTIFACT.replace("a", "%61", 1),
    ARTIFACT.replace("/artifact/", "/artifact%2f"),
    f"/x/..{ARTIFACT}",
    f"/x/%2e%2e{ARTIFACT}",
    f"/x/..%2f{ARTIFACT[1:]}",
    f"/.{ARTIFACT}",
]
NO_FILES = [f"{ARTIFACT}/", f"{ARTIFACT}%0a", f"{ARTIFACT}%0d%0ax", f"{ARTIFACT}#", f"/x{ARTIFACT}", SPLITTING, "/none"]
OLD_LOCATION = """
location ~ /(registry|package|artifact)/ {{
    add_header Content-Type application/x-gzip;
    default_type application/octet-stream;
    root {root}/cache;
    try_files $uri =404;
}}
"""
FORGED = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Real-IP": "203.0.113.9",
    "Forwarded": "for=203.0.113.9",
    "X-Original-URI": ARTIFACT,
}
ANYTHING = Behaviour(body=b"something")


def client_of(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS, trust_env=False)


async def ask_raw(port: int | None, path: str, *lines: str) -> tuple[int, dict[str, str], bytes]:
    """Ask for exactly `path`; return the status, the headers and the body."""
    async with connected(port or 80) as raw:
        await raw.ask(path, "Connection: close", *lines)
        head = await raw.head()
        return head.status, dict(head.headers), await raw.rest()


async def test_a_path_splits_no_answer(tmp_path: Path) -> None:
    with running_faulty(tmp_path / "faulty", "location ~ ^/registry/ { return 302 https://pkg.invalid$uri; }") as url:
        _, headers, _ = await ask_raw(httpx.URL(url).port, SPLITTING)
        assert headers["set-cookie"] == "x=1"
    async with upstreams({}) as (first, second), front_before(tmp_path, address(first), address(second)) as (ours, _):
        _, headers, _ = await ask_raw(ours.ports[8000], SPLITTING)
        assert "set-cookie" not in headers


async def test_the_way_to_https_splits_no_answer_and_leads_to_no_other_host(tmp_path: Path) -> None:
    settings = {"PKG_SERVER_FQDN": "pkg.example.org", "TLS_CERTIFICATES_DIR": "own"}
    async with secure_front(tmp_path, settings) as (ours, _):
        status, headers, _ = await ask_raw(ours.ports[80], SPLITTING)
        assert (status, headers["location"]) == (301, f"https://pkg.example.org{SPLITTING}")
        assert "set-cookie" not in headers


async def test_a_path_is_what_the_client_sent_and_nothing_it_could_mean(stack: Stack, tmp_path: Path) -> None:
    await stack.warm(ARTIFACT)
    old_location = OLD_LOCATION.format(root=stack.sites[0].root)
    with running_faulty(tmp_path / "faulty", old_location) as url:
        answers = [await ask_raw(httpx.URL(url).port, path) for path in DISGUISES]
        assert {status for status, _, _ in answers} == {200}
    for path in (*DISGUISES, *NO_FILES):
        from_nginx = await ask_raw(stack.front_end.ports[8000], path)
        from_server = await ask_raw(stack.sites[0].port, path)
        assert (path, from_nginx[0], from_nginx[2]) == (path, 404, b"not found\n")
        assert (path, from_server[0], from_server[2]) == (path, 404, b"not found\n")


@pytest.mark.parametrize("path", ["/../x", "/..%2fx", "/artifact/%2e%2e/%2e%2e/x", "/%00", "/%zz", "*"])
async def test_a_path_that_is_none_is_refused_and_asked_of_nobody(tmp_path: Path, path: str) -> None:
    async with (
        upstreams(lambda _: ANYTHING) as (first, second),
        front_before(tmp_path, address(first), address(second)) as (ours, _),
    ):
        assert (await ask_raw(ours.ports[8000], path))[0] == 400
        assert not first.seen + second.seen


async def test_a_hit_has_one_type(stack: Stack, tmp_path: Path) -> None:
    await stack.warm(ARTIFACT)
    old_location = OLD_LOCATION.format(root=stack.sites[0].root)
    with running_faulty(tmp_path / "faulty", old_location) as url:
        async with client_of(url) as client:
            answer = await client.get(ARTIFACT)
        assert len(answer.headers.get_list("Content-Type")) == 2
    assert (await stack.front.get(ARTIFACT)).headers.get_list("Content-Type") == ["application/x-gzip"]


async def test_a_client_does_not_say_who_it_is(tmp_path: Path) -> None:
    async with upstreams(lambda _: ANYTHING) as (first, second):
        idea = f"""
            set_real_ip_from 0.0.0.0/0;
            real_ip_header X-Real-IP;
            location / {{
                proxy_pass http://{address(first)};
                proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                proxy_set_header X-Real-IP $remote_addr;
            }}"""
        with running_faulty(tmp_path / "faulty", idea) as url:
            async with client_of(url) as client:
                await client.get("/", headers=FORGED)
        seen = first.seen.pop().headers
        assert (seen["x-real-ip"], seen["x-original-uri"]) == ("203.0.113.9", ARTIFACT)
        assert seen["x-forwarded-for"].startswith("203.0.113.9")
        async with front_before(tmp_path, address(first), address(second)) as (_, front):
            for path in ("/", ARTIFACT, f"{ARTIFACT}/Example", "/admin"):
                await front.get(path, headers=FORGED)
        for request in first.seen + second.seen:
            said = {name: request.headers.get(name.lower()) for name in FORGED}
            assert said == {
                "X-Forwarded-For": "127.0.0.1",
                "X-Real-IP": "127.0.0.1",
                "Forwarded": None,
                "X-Original-URI": None,
            }


async def test_a_proxy_before_us_is_believed_where_it_is_configured(tmp_path: Path) -> None:
    settings = {**PLAIN, "FRONTEND_PROXIES": "127.0.0.1,192.0.2.0/24"}
    async with upstreams(lambda _: ANYTHING) as (first, second):
        async with front_before(tmp_path, address(first), address(second), settings=settings) as (_, front):
            await front.get("/", headers={"X-Forwarded-For": "198.51.100.1, 203.0.113.9, 192.0.2.7"})
        assert first.seen[-1].headers["x-forwarded-for"] == "203.0.113.9"


async def test_nobody_outside_tells_of_hits(stack: Stack, tmp_path: Path) -> None:
    await stack.warm(ARTIFACT)
    told = {"X-Original-URI": ARTIFACT}
    with running_faulty(tmp_path / "faulty", f"location / {{ proxy_pass {stack.sites[0].running.url}; }}") as url:
        async with client_of(url) as client:
            assert (await client.get("/notify", headers=told)).status_code == 204
    for path in ("/notify", "/%6eotify", "//notify", "/x/../notify", "/notify?x"):
        status, _, _ = await ask_raw(stack.front_end.ports[8000], path, f"X-Original-URI: {ARTIFACT}")
        assert (path, status) == (path, 404)


async def test_what_is_told_of_hits_outside_reaches_no_server(tmp_path: Path) -> None:
    async with (
        upstreams(lambda _: ANYTHING) as (first, second),
        front_before(tmp_path, address(first), address(second)) as (ours, _),
    ):
        for path in ("/notify", "/%6eotify", "//notify"):
            assert (await ask_raw(ours.ports[8000], path))[0] == 404
        assert not first.seen + second.seen


@pytest.mark.parametrize("path", ["/metrics", "/stub_status"])
async def test_only_who_is_allowed_sees_numbers(tmp_path: Path, path: str) -> None:
    settings = {**PLAIN, "FRONTEND_PROXIES": "127.0.0.1", "METRICS_ALLOW": "203.0.113.0/24"}
    statuses = {}
    async with (
        upstreams(lambda _: ANYTHING) as (first, second),
        front_before(tmp_path, address(first), address(second), settings=settings) as (ours, front),
    ):
        for peer in ("203.0.113.9", "198.51.100.1"):
            statuses[peer] = (await front.get(path, headers={"X-Forwarded-For": peer})).status_code
        for disguise in (f"/{path}", f"/x/..{path}", path.replace("t", "%74", 1)):
            status, _, _ = await ask_raw(ours.ports[8000], disguise, "X-Forwarded-For: 198.51.100.1")
            assert (disguise, status) == (disguise, 403)
    assert statuses == {"203.0.113.9": 200, "198.51.100.1": 403}


async def test_no_upgrade_gets_through(tmp_path: Path) -> None:
    asking = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAARAAAAAAAIAAAAA"}
    async with upstreams(lambda _: ANYTHING) as (first, second):
        idea = f"""
            location / {{
                proxy_pass http://{address(first)};
                proxy_http_version 1.1;
                proxy_set_header Upgrade $http_upgrade;
                proxy_set_header Connection $http_connection;
            }}"""
        with running_faulty(tmp_path / "faulty", idea) as url:
            async with client_of(url) as client:
                await client.get("/", headers=asking)
        assert first.seen.pop().headers["upgrade"] == "h2c"
        async with front_before(tmp_path, address(first), address(second)) as (_, front):
            await front.get("/", headers=asking)
        assert "upgrade" not in first.seen[-1].headers
        assert first.seen[-1].headers["connection"] == "close"


async def test_what_breaks_off_does_not_look_whole_to_a_client_of_http_1_0(tmp_path: Path) -> None:
    broken = Behaviour(body=b"x" * 1000, declared_length=None, close_at=500)
    async with upstreams(lambda _: broken) as (first, second):
        with running_faulty(tmp_path / "faulty", f"location / {{ proxy_pass {first.url}; }}") as url:
            async with connected(httpx.URL(url).port or 80) as raw:
                await raw.ask(ARTIFACT, version="1.0")
                assert "content-length" not in (await raw.head()).headers
                assert await raw.rest()  # and then the end, as if this were all
        async with (
            front_before(tmp_path, address(first), address(second)) as (ours, _),
            connected(ours.ports[8000]) as raw,
        ):
            await raw.ask(ARTIFACT, version="1.0")
            await raw.head()
        # The server then waits for the end of the download, and says its size (docs/protocol.md, "Resources").
        assert (first.seen + second.seen)[-1].headers["range"] == "whole=0-"


async def test_hits_do_not_need_the_servers(stack: Stack, tmp_path: Path) -> None:
    await stack.warm(ARTIFACT)
    for site in stack.sites:
        site.running.stopping.set()
        await site.ended.wait()
    answers = [await stack.front.get(ARTIFACT) for _ in range(3)]
    assert [(answer.status_code, answer.content) for answer in answers] == [(200, SAMPLE.files[ARTIFACT])] * 3


async def test_a_name_is_looked_up_again_when_its_container_got_another_address(tmp_path: Path) -> None:
    with refusing_url() as gone:
        port = httpx.URL(gone).port
        async with other_address(port) as upstream, NameServer({"pkgserver1": "127.0.0.1"}) as names:
            settings = {**PLAIN, "NGINX_RESOLVER": names.address}
            servers = (f"pkgserver1:{port}", f"pkgserver2:{port}")
            async with front_before(tmp_path, *servers, settings=settings) as (_, front):
                assert (await front.get("/")).status_code == 502
                names.known["pkgserver1"] = "127.0.0.2"
                with trio.fail_after(PATIENCE_SECONDS):
                    while (await front.get("/")).status_code == 502:
                        pass
        assert upstream.seen


async def test_a_name_that_is_looked_up_once_leads_to_nobody_for_ever(tmp_path: Path) -> None:
    available = os.geteuid() == 0 and shutil.which("unshare") is not None
    require("root", available=available, how_to_get="run the tests as root, with util-linux")
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 pkgserver\n")
    with refusing_url() as gone:
        port = httpx.URL(gone).port
        own_names = ("unshare", "--mount", "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$@"', "sh")
        idea = f"location / {{ proxy_pass http://pkgserver:{port}; }}"
        async with other_address(port) as upstream:
            with running_faulty(tmp_path / "faulty", idea, own_names) as url:
                async with client_of(url) as client:
                    assert (await client.get("/")).status_code == 502
                    hosts.write_text("127.0.0.2 pkgserver\n")
                    assert [(await client.get("/")).status_code for _ in range(20)] == [502] * 20
        assert not upstream.seen


def other_address(port: int | None) -> AbstractAsyncContextManager[FakeUpstream]:
    """Return a server on 127.0.0.2: the container made anew."""
    upstream = FakeUpstream(script=lambda _: ANYTHING)
    upstream.port, upstream.host = port or 0, "127.0.0.2"
    return upstream

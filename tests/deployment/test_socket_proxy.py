"""The socket proxies let through what their program calls, as it was sent, and nothing else."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from tests.acceptance.target import eventually
from tests.conftest import require
from tests.deployment.socket_proxy import running_proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.deployment.socket_proxy import Proxy

ID = "0123456789abcdef" * 4
HEAL = '/containers/json?filters={"health":["unhealthy"],"label":["pkgserver.heal=true"]}'
STATUS = "%7B%22status%22%3A%7B%22running%22%3Atrue%7D%7D"

WATCHTOWER_CALLS = [
    ("HEAD", "/_ping"),
    ("GET", "/_ping"),
    ("GET", "/v1.41/version"),
    ("GET", f"/v1.41/containers/json?filters={STATUS}"),
    ("GET", "/v1.51/containers/json?all=1"),
    ("GET", f"/v1.41/containers/{ID}/json"),
    ("GET", f"/v1.41/containers/{ID[:12]}/json"),
    ("GET", f"/v1.41/images/sha256:{ID}/json"),
    ("GET", "/v1.41/images/registry.example.org:5000/julia/pkgserver-trio:latest/json"),
    ("POST", "/v1.41/images/create?fromImage=registry.example.org%3A5000%2Fpkgserver-trio&tag=latest"),
    ("POST", f"/v1.41/containers/{ID}/exec"),
    ("POST", f"/v1.41/exec/{ID}/start"),
    ("GET", f"/v1.41/exec/{ID}/json"),
    ("POST", f"/v1.41/containers/{ID}/stop?signal=SIGTERM&t=31"),
    ("POST", f"/v1.41/containers/{ID}/stop?t=31"),
    ("DELETE", f"/v1.41/containers/{ID}?force=1"),
    ("POST", "/v1.41/containers/create"),
    ("POST", "/v1.41/containers/create?name=pkgserver-pkgserver2-1"),
    ("POST", f"/v1.41/containers/{ID}/rename?name=pkgserver-pkgserver1-1"),
    ("POST", "/v1.41/networks/pkgserver_inside/connect"),
    ("POST", "/v1.41/networks/pkgserver_upstream/connect"),
    ("POST", f"/v1.41/containers/{ID}/start"),
    ("DELETE", f"/v1.41/images/sha256:{ID}?force=1"),
]
AUTOHEAL_CALLS = [
    ("GET", HEAL),
    ("POST", f"/containers/{ID}/restart?t=3"),
    ("POST", f"/v1.41/containers/{ID}/restart?t=10"),
]
#: What the engine would do for anybody who asks.
ELSE = [
    ("GET", "/info"),
    ("GET", "/events"),
    ("GET", "/v1.41/containers/json?filters=x/../y"),
    ("GET", f"/v1.41/containers/{ID}/logs?stdout=1"),
    ("GET", f"/v1.41/containers/{ID}/archive?path=/storage"),
    ("PUT", f"/v1.41/containers/{ID}/archive?path=/"),
    ("GET", f"/v1.41/containers/{ID}/export"),
    ("POST", f"/v1.41/containers/{ID}/kill?signal=KILL"),
    ("POST", f"/v1.41/containers/{ID}/attach?stream=1&stdin=1"),
    ("POST", f"/v1.41/containers/{ID}/update"),
    ("POST", f"/v1.41/containers/{ID}/rename?name=another"),
    ("POST", f"/v1.41/containers/{ID}/rename?name=pkgserver-frontend-1"),
    ("POST", "/v1.41/containers/create?name=another"),
    ("POST", "/v1.41/containers/prune"),
    ("DELETE", f"/v1.41/containers/{ID}?force=1&v=1"),
    ("DELETE", "/v1.41/containers/pkgserver-frontend-1?force=1"),
    ("GET", "/v1.41/images/json"),
    ("GET", "/v1.41/images/../containers/json"),
    ("POST", "/v1.41/images/create?fromSrc=http://evil.example.org/x.tar"),
    ("POST", "/v1.41/images/create?fromImage=x&fromSrc=-"),
    ("POST", "/v1.41/images/load"),
    ("DELETE", "/v1.41/images/python:3.13-slim?force=1"),
    ("POST", "/v1.41/build"),
    ("GET", "/v1.41/networks"),
    ("POST", "/v1.41/networks/create"),
    ("POST", "/v1.41/networks/host/connect"),
    ("POST", "/v1.41/networks/pkgserver_outside/connect"),
    ("GET", "/v1.41/volumes"),
    ("DELETE", "/v1.41/volumes/x"),
    ("GET", "/v1.41/secrets"),
    ("POST", "/v1.41/swarm/init"),
    ("POST", "/v1.41/plugins/pull?remote=x"),
    ("POST", "/session"),
    ("POST", "/grpc"),
    ("GET", "/v1.41/system/df"),
    ("POST", "/v1.41/auth"),
]
#: Calls that are granted, said in another way.
TRICKS = [
    ("GET", "/v1.41//containers/json"),
    ("GET", "//v1.41/containers/json"),
    ("GET", "/v1.41/./containers/json"),
    ("GET", "/v1.41/x/../containers/json"),
    ("GET", "/v1.41/%63ontainers/json"),
    ("GET", "/v1.41/containers%2Fjson"),
    ("GET", "/v1.41/containers/json%00"),
    ("GET", "/v1.41/containers/json/"),
    ("GET", "/v1.41/containers/json#/events"),
    ("GET", "/v1.41/containers/json?x#y"),
    ("GET", f"/v1.41/containers/{ID}/json/../logs"),
    ("GET", f"/v1.41/containers/{ID}%2F..%2F..%2Finfo/json"),
    ("GET", f"/v1.41/containers/{ID.upper()}/json"),
    ("GET", "/v1.41/images/a/../../containers/json"),
    ("GET", "/v1.41/images/%2e%2e/containers/json"),
    ("GET", "/v9/containers/json"),
    ("GET", "/v1.41/v1.41/containers/json"),
    ("GET", "/V1.41/containers/json"),
    ("GET", "/v1.41/containers/JSON"),
    ("POST", f"/v1.41/containers/{ID}/restart?t=3&t=9999"),
    ("POST", f"/v1.41/containers/{ID}/restart?t=9999"),
    ("POST", f"/v1.41/containers/{ID[:12]}/restart?t=3"),
    ("POST", "/v1.41/containers/pkgserver-frontend-1/restart?t=3"),
    ("GET", HEAL.replace('"label":["pkgserver.heal=true"]', '"label":[]')),
    ("GET", HEAL + "&all=1"),
    ("GET", "/containers/json?all=1&" + HEAL.partition("?")[2]),
    ("OPTIONS", "/_ping"),
    ("CONNECT", "/_ping"),
    ("PATCH", f"/v1.41/containers/{ID}/start"),
    ("GET", f"/v1.41/containers/{ID}/start"),
]


@pytest.fixture(scope="module")
def _nginx() -> None:
    require("nginx", available=shutil.which("nginx") is not None, how_to_get="apt-get install nginx-light")


@pytest.fixture(scope="module")
def watchtower(_nginx: None) -> Iterator[Proxy]:
    with running_proxy("watchtower") as proxy:
        yield proxy


@pytest.fixture(scope="module")
def autoheal(_nginx: None) -> Iterator[Proxy]:
    with running_proxy("autoheal") as proxy:
        yield proxy


def check_granted(proxy: Proxy, method: str, path: str) -> None:
    proxy.calls.clear()
    assert proxy.call(method, path) == 200
    assert proxy.calls[0].startswith(f"{method} {path} HTTP/1.1\r\n".encode())


def check_refused(proxy: Proxy, method: str, path: str) -> None:
    proxy.calls.clear()
    assert proxy.call(method, path) in {400, 403, 405}
    assert proxy.calls == []


@pytest.mark.parametrize(("method", "path"), WATCHTOWER_CALLS)
def test_watchtower_gets_what_it_needs(watchtower: Proxy, method: str, path: str) -> None:
    check_granted(watchtower, method, path)


@pytest.mark.parametrize(("method", "path"), AUTOHEAL_CALLS)
def test_autoheal_gets_what_it_needs(autoheal: Proxy, method: str, path: str) -> None:
    check_granted(autoheal, method, path)


@pytest.mark.parametrize(("method", "path"), [*ELSE, *TRICKS, *AUTOHEAL_CALLS])
def test_watchtower_gets_nothing_else(watchtower: Proxy, method: str, path: str) -> None:
    check_refused(watchtower, method, path)


@pytest.mark.parametrize(("method", "path"), [*ELSE, *TRICKS, *WATCHTOWER_CALLS])
def test_autoheal_gets_nothing_else(autoheal: Proxy, method: str, path: str) -> None:
    check_refused(autoheal, method, path)


def test_absolute_form_is_judged_by_its_path(watchtower: Proxy) -> None:
    watchtower.calls.clear()
    assert watchtower.call("GET", "http://x/events") == 403
    assert watchtower.call("GET", "http://containers/json") == 403
    assert watchtower.calls == []
    assert watchtower.call("GET", "http://x/events/v1.41/version") == 403
    assert watchtower.call("GET", "http://x/v1.41/version") == 200
    assert [call.split(b"\r\n")[0] for call in watchtower.calls] == [b"GET /v1.41/version HTTP/1.1"]


@pytest.mark.parametrize(
    "start",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /v1.41/version\tx HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET  /events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"\x00\x00\x00\r\n\r\n",
    ],
    ids=["HTTP/2", "tab", "two spaces", "noise"],
)
def test_what_is_no_request_goes_nowhere(watchtower: Proxy, start: bytes) -> None:
    watchtower.calls.clear()
    assert b" 200 " not in watchtower.send(start)
    assert watchtower.calls == []


def test_nothing_is_upgraded_and_no_other_header_passes(watchtower: Proxy) -> None:
    watchtower.calls.clear()
    headers = {
        "Connection": "Upgrade, HTTP2-Settings, close",
        "Upgrade": "h2c",
        "HTTP2-Settings": "AAMAAABkAAQAAP__",
        "X-Forwarded-For": "x",
        "X-HTTP-Method-Override": "DELETE",
        "Content-Type": "application/json",
        "X-Registry-Auth": "e30=",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    answer = watchtower.send(
        f"POST /exec/{ID}/start HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: 2\r\n\r\n{{}}".encode()
    )
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"Api-Version: 1.41" in answer
    head, _, body = watchtower.calls[0].partition(b"\r\n\r\n")
    names = {line.split(b":")[0].lower() for line in head.split(b"\r\n")[1:]}
    assert names == {b"host", b"content-type", b"x-registry-auth", b"content-length"}
    assert body == b"{}"


def test_body_in_chunks_arrives_whole_and_what_follows_it_is_another_request(watchtower: Proxy) -> None:
    watchtower.calls.clear()
    chunked = b"POST /containers/create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    answer = watchtower.send(chunked + b"GET /events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200, 403]
    assert [call.partition(b"\r\n\r\n")[2] for call in watchtower.calls] == [b"{}"]


@pytest.mark.parametrize(
    "lengths",
    [
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: +5\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
    ],
)
def test_length_that_two_could_read_differently_is_refused(watchtower: Proxy, lengths: bytes) -> None:
    watchtower.calls.clear()
    smuggled = b"0\r\n\r\nGET /events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    head = b"POST /containers/create HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    watchtower.send(head + lengths + b"\r\n" + smuggled)
    assert not any(b"/events" in call for call in watchtower.calls)


def test_body_has_a_limit(watchtower: Proxy) -> None:
    watchtower.calls.clear()
    assert watchtower.call("POST", "/containers/create", b"x" * 256 * 1024) == 200
    assert watchtower.call("POST", "/containers/create", b"x" * (256 * 1024 + 1)) == 413
    assert len(watchtower.calls) == 1


def test_autoheal_is_served_over_its_socket(autoheal: Proxy) -> None:
    autoheal.calls.clear()
    request = f"GET {HEAL} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    assert autoheal.send(request, by_socket=True).startswith(b"HTTP/1.1 200 ")
    assert autoheal.send(request.replace(HEAL.encode(), b"/info"), by_socket=True).startswith(b"HTTP/1.1 403 ")
    assert len(autoheal.calls) == 1


def test_health_of_the_proxy_is_its_own_and_what_it_refuses_is_logged(watchtower: Proxy) -> None:
    watchtower.calls.clear()
    assert watchtower.call("GET", "/healthz") == 200
    assert watchtower.calls == []
    assert watchtower.call("GET", "/secrets?name=x") == 403
    log = watchtower.folder / "refused.log"
    eventually(lambda: "refused: GET /secrets?name=x\n" in log.read_text("utf-8"))
    assert "/healthz" not in log.read_text("utf-8")

"""The fault table over real sockets: from a storage server that fails to a client that has to be served by another."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import pytest
import trio
from tests.conftest import require
from tests.fakes import Behaviour, FakeUpstream, Pieces, refusing_url
from tests.faults import BODY, FAULTS, WANTED
from tests.web.raw import connected
from tests.web.site import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.faults import Fault
    from tests.web.site import Serve, Site

#: What has accepted a connection cannot refuse it: those rows are below, with real sockets of their own.
ROWS = {name: fault for name, fault in FAULTS.items() if fault.get.connect == "accept"}


@pytest.fixture(autouse=True)
async def no_names() -> AsyncIterator[None]:
    """Let no name be looked up outside; all of them are unknown."""

    class NoNames(trio.abc.HostnameResolver):
        async def getaddrinfo(self, host: object, *_: object) -> NoReturn:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        async def getnameinfo(self, *_: object) -> NoReturn:
            raise NotImplementedError

    trio.socket.set_custom_hostname_resolver(NoNames())
    yield
    trio.socket.set_custom_hostname_resolver(None)


def quick(behaviour: Behaviour) -> Behaviour:
    if behaviour.pieces is None:
        return behaviour
    return replace(behaviour, pieces=Pieces(size=behaviour.pieces.size, pause=behaviour.pieces.pause / 10))


def bad_server(fault: Fault) -> FakeUpstream:
    return FakeUpstream(script={("GET", WANTED.path): quick(fault.get), ("HEAD", WANTED.path): fault.head})


def good_server() -> FakeUpstream:
    """Return a server that is a little slower to answer a probe."""
    answer = Behaviour(body=BODY, delay_before_head=0.05)
    return FakeUpstream({WANTED.path: BODY}, script={("HEAD", WANTED.path): answer})


async def start(serve: Serve, *servers: str) -> Site:
    """Start a server that has a tenth of the usual patience, so that silence costs a test little."""
    return await serve(
        JULIA_PKG_SERVER_STORAGE_SERVERS=",".join(servers),
        PKGSERVER_CONNECT_SECONDS="0.5",
        PKGSERVER_HEAD_SECONDS="0.5",
        PKGSERVER_BODY_SECONDS="0.5",
        PKGSERVER_MAX_UNPACKED="1MB",
    )


async def receive(site: Site) -> tuple[int, bytes, bool]:
    """Return the status, the body, and whether the answer was whole, of a client on a bare socket."""
    async with connected(site.port) as raw:
        await raw.ask(WANTED.path, "Connection: close")
        head = await raw.head()
        body = await raw.rest()
    if "content-length" in head.headers:
        return head.status, body, len(body) == int(head.headers["content-length"])
    return head.status, unchunked(body), body.endswith(b"\r\n0\r\n\r\n")


def unchunked(body: bytes) -> bytes:
    """Return what the chunks of a body hold that may have been cut off."""
    content = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        content += rest[: int(size, 16)]
        body = rest[int(size, 16) + 2 :]
    return content


async def assert_all_is_well(site: Site) -> None:
    await site.settle()
    assert site.unfinished == []
    assert (await site.get_after_pause(WANTED.path)).content == BODY
    await site.settle()
    assert site.cached == {WANTED.path}
    assert site.unfinished == []


@pytest.mark.parametrize("fault", ROWS.values(), ids=ROWS)
async def test_a_good_second_server_serves_who_meets_a_bad_one(serve: Serve, fault: Fault) -> None:
    async with bad_server(fault) as bad, good_server() as good:
        site = await start(serve, bad.url, good.url)
        with trio.fail_after(PATIENCE_SECONDS):
            status, body, whole = await receive(site)
        assert status == 200
        assert body == BODY if whole else fault.noticed
        await assert_all_is_well(site)


@pytest.mark.parametrize("fault", ROWS.values(), ids=ROWS)
async def test_with_nobody_else_no_answer_is_whole(serve: Serve, fault: Fault) -> None:
    async with bad_server(fault) as bad:
        site = await start(serve, bad.url)
        with trio.fail_after(PATIENCE_SECONDS):
            status, _, whole = await receive(site)
        assert status in {404, 502, 504} if whole else status == 200
        await site.settle()
        assert site.unfinished == []
        assert site.cached == set()
        assert len(site.library.store.reservations) == 0


@pytest.mark.parametrize("why", ["refused", "no such name", "no TLS", "a certificate that nobody vouches for"])
async def test_a_server_that_cannot_be_reached_is_told_and_no_hindrance(
    serve: Serve, nursery: trio.Nursery, certificate: Path, why: str
) -> None:
    listeners = await nursery.start(partial(trio.serve_tcp, speak_no_tls, 0, host="127.0.0.1"))
    with refusing_url() as refusing:
        async with good_server() as good, FakeUpstream(tls=identity(certificate)) as stranger:
            urls = {
                "refused": refusing,
                "no such name": "http://nobody.example",
                "no TLS": f"https://127.0.0.1:{listeners[0].socket.getsockname()[1]}",
            }
            bad = urls.get(why, stranger.url)
            alone = await start(serve, bad)
            status, body, _ = await receive(alone)
            assert (status, b"ConnectError" in body) == (502, True)
            await alone.stop()
            site = await start(serve, bad, good.url)
            assert (await receive(site))[1] == BODY
            await assert_all_is_well(site)
            assert stranger.seen == []


async def test_a_certificate_of_the_operators_own_is_believed(serve: Serve, certificate: Path) -> None:
    async with FakeUpstream({WANTED.path: BODY}, tls=identity(certificate)) as upstream:
        site = await serve(JULIA_PKG_SERVER_STORAGE_SERVERS=upstream.url, PKGSERVER_CA_FILE=str(certificate))
        assert await receive(site) == (200, BODY, True)


async def speak_no_tls(stream: trio.SocketStream) -> None:
    await stream.send_all(b"220 mail.example ESMTP\r\n")


def identity(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a file with a new key and a certificate for 127.0.0.1 that nobody but the key itself has signed."""
    require("openssl", available=shutil.which("openssl") is not None, how_to_get="apt install openssl")
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    what = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "-", "-out", "-"]
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
        *what,
    ]
    path.write_bytes(subprocess.run(made, check=True, capture_output=True).stdout)
    return path

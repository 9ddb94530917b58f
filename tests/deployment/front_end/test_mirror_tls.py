"""TLS of the mirror: whom it believes, and its own host's certificate."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.behaviours import good
from tests.deployment.front_end.conftest import make_certificate
from tests.deployment.front_end.mirrored import cache_of, mirror, saying
from tests.deployment.front_end.name_server import NameServer
from tests.deployment.front_end.running import write_conf
from tests.fakes import FakeUpstream

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 6\r\nETag: "x"\r\nConnection: close\r\n\r\nsecret'
NAMES = {"s3.example.org": "127.0.0.1", "other.example.org": "127.0.0.1"}


@pytest.mark.parametrize(
    ("host", "trusted", "status"),
    [
        ("s3.example.org", True, 200),
        ("s3.example.org", False, 502),  # nobody but itself has signed it
        ("other.example.org", True, 502),
    ],
)
async def test_an_origin_is_who_it_says_it_is(tmp_path: Path, host: str, *, trusted: bool, status: int) -> None:
    certificates = tmp_path / "origin"
    make_certificate(certificates, "s3.example.org")
    if trusted:
        authorities = tmp_path / "front" / "etc" / "authorities"
        authorities.mkdir(parents=True)
        (authorities / "ours.pem").write_bytes((certificates / "fullchain.pem").read_bytes())
    async with (
        NameServer(NAMES) as names,
        saying(ANSWER, certificates) as port,
        mirror(tmp_path, f"https://{host}:{port}", NGINX_RESOLVER=names.address) as (front_end, client),
    ):
        told = await cache_of(client, "a")
        assert (told[0], b"secret" in told[2]) == (status, status == 200)
        refusals = ("certificate verify error", "SSL certificate does not match")
        log = (front_end.folder / "error.log").read_text("utf-8")
        assert any(refusal in log for refusal in refusals) == (status == 502)


async def test_without_any_authority_only_plain_origins_are_asked(tmp_path: Path) -> None:
    async with FakeUpstream(script=lambda _: good(b"plain")) as origin:
        buckets = {"S3_MIRROR_BUCKET_LIST": f"abc={origin.url} secure=https://a.org", "SSL_CERT_FILE": "/nowhere.crt"}
        async with mirror(tmp_path, origin.url, {}, **buckets) as (_, client):
            assert (await cache_of(client, "a"))[::2] == (200, b"plain")
            assert (await client.get("/mirror/secure/a")).status_code == 404
    written = write_conf(tmp_path / "conf.d", {"PKG_SERVER_FQDN": "a.b", "DISABLE_TLS": "1", **buckets})
    assert written.returncode == 0
    assert written.stderr.startswith("the mirror has no https origins: neither /nowhere.crt nor ")


async def test_the_host_of_its_own_has_a_certificate_of_its_own(tmp_path: Path) -> None:
    certificates = tmp_path / "certificates"
    for folder, name in ((certificates, "pkg.example.org"), (certificates / "mirror", "mirror.example.org")):
        make_certificate(folder, name)
    settings = {"DISABLE_TLS": "0", "TLS_CERTIFICATES_DIR": "own", "S3_MIRROR_FQDN": "mirror.example.org"}
    async with (
        FakeUpstream(script=lambda _: good(b"old")) as origin,
        mirror(tmp_path, origin.url, {"/certificates/": f"{certificates}/"}, **settings) as (front_end, plain),
    ):
        for name, folder, path in (
            ("mirror.example.org", certificates / "mirror", "/abc/a"),
            ("pkg.example.org", certificates, "/mirror/abc/a"),
        ):
            context = ssl.create_default_context(cafile=folder / "fullchain.pem")
            async with httpx.AsyncClient(verify=context, trust_env=False) as client:
                url = f"https://127.0.0.1:{front_end.ports[443]}{path}"
                answer = await client.get(url, headers={"Host": name}, extensions={"sni_hostname": name})
                assert (answer.status_code, answer.content) == (200, b"old")
        port_80 = f"http://127.0.0.1:{front_end.ports[80]}/abc/a"
        moved = await plain.get(port_80, headers={"Host": "mirror.example.org"})
        assert (moved.status_code, moved.headers["Location"]) == (301, "https://mirror.example.org/abc/a")

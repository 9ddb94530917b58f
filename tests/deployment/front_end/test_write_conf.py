"""What .env says becomes configuration: right values only, each wrong one named, and nginx takes what comes of it."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest
from tests.deployment.front_end.conftest import make_certificate
from tests.deployment.front_end.running import check_configuration, write_conf

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAIL = {"CERTBOT_EMAIL": "admin@example.org"}
NAMED = {"PKG_SERVER_FQDN": "pkg.example.org", **MAIL}
FLAGS = (
    "DISABLE_TLS",
    "KEEP_HTTP_8000",
    "PKG_SERVER_FLAVORLESS",
    "DISABLE_INTERNAL_DNS",
    "DISABLE_INTERNAL_DNS_IPV6",
)
NETWORKS = ("FRONTEND_PROXIES", "METRICS_ALLOW", "LIMIT_EXEMPT")
LIMITS = ("LIMIT_REQUESTS_PER_SECOND", "LIMIT_CONNECTIONS")

#: What means something to nginx or to a shell, whatever it is in.
HOSTILE = ["; }", "}", "a b", "a;", "$host", "$(id)", "`id`", "a\nb", "a\n", "\n", "'", '"', "#", "\\", "*", "é", "-"]
GOOD_NETWORKS = [
    "10.0.0.0/8",
    "127.0.0.1",
    "192.0.2.255/32",
    "10.0.0.0/8,fd00::/8",
    "::1",
    "2001:db8::/32",
    "1:2:3:4:5:6:7:8",
    "FD00::1/128",
]
BAD_NETWORKS = [
    "10.0.0.0/33",
    "10.0.0/8",
    "10.0.0.0.0",
    "256.0.0.1",
    "10.0.0.01",
    "10..0.1",
    "10.0.0.0/",
    "/8",
    "10.0.0.0/8/8",
    ",10.0.0.0/8",
    "10.0.0.0/8,",
    "10.0.0.0/8,,::1",
    "fd00::/129",
    "1::2::3",
    ":::",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "1:2:3:4:5:6:7:8::",
    "12345::",
    ":1",
    "1:",
    "all",
    "::ffff:10.0.0.1",
]
GOOD_NAMES = ["pkg.example.org", "a.b", "xn--bcher-kva.example", "1.example", "PKG.example.org", f"{'a' * 63}.b"]
BAD_NAMES = ["", "localhost", ".a.b", "a.b.", "a..b", "-a.b", "a-.b", "a.-b", "a_b.c", f"{'a' * 64}.b", "a.b" * 99]
BAD_LIMITS = ["0", "-1", "01", "1.5", "100001", "1e3", "99999999999999999999", "1 "]
STALE_TIMES = ("S3_MIRROR_STALE_WHILE_REVALIDATE_SECONDS", "S3_MIRROR_STALE_IF_ERROR_SECONDS")
GOOD_BUCKETS = [
    "",
    "none",
    "abc",
    "abc,def",
    "abc def",
    "my.bucket-1;ttl=1",
    "abc=http://a",
    "abc=https://a.b:1/c/d/;ttl=31536000 def=http://10.0.0.1:9000/def",
    "abc=http://[::1]",
    "abc=http://[fd00::1]:9000/a%20b",
]
BAD_BUCKETS = [
    *("ab", "ABC", "a_c", ".abc", "abc.", "-abc", "a" * 64, "none abc_", "abc abc", "abc/d", " ", ","),
    *("abc;ttl=", "abc;ttl=0", "abc;ttl=01", "abc;ttl=31536001", "abc;TTL=1", "abc;ttl=1;ttl=1", "abc;ttl=1=http://a"),
    *("abc=", "abc=a.b", "abc=ftp://a.b", "abc=http://", "abc=http://a.b:", "abc=http://a.b:0", "abc=http://a.b:65536"),
    *("abc=http://u:p@a.b", "abc=http://a.b?c", "abc=http://a.b#c", "abc=http://a.b/../c", "abc=http://a.b//c"),
    *("abc=http://[::1", "abc=http://[::1]x", "abc=http://[::1]:0", "abc=http://[a.b]", "abc=http://-a.b"),
]
HOSTILE_IN_LISTS = ["}", "$host", "$(id)", "`id`", "a\nb", "\n", "'", '"', "\\", "*", "é"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *product(FLAGS, ["", "0", "1", "true", "false", "yes", "no", "on", "off", "True", "OFF"]),
        *product(NETWORKS, ["", *GOOD_NETWORKS]),
        *product(LIMITS, ["", "1", "100000"]),
        *product(["PKG_SERVER_FQDN"], GOOD_NAMES),
        *product(["PKG_SERVER_REGION"], ["", "eu", "us-east", "1"]),
        *product(["NGINX_RESOLVER"], ["", "127.0.0.1", "10.0.0.1:53"]),
        *product(["CERTBOT_EMAIL"], ["a@b.org", "first.last+pkg@mail.example.org"]),
        *product(["S3_MIRROR_FQDN"], ["", *GOOD_NAMES]),
        *product(["S3_MIRROR_BUCKET_LIST"], GOOD_BUCKETS),
        *product(["S3_MIRROR_MAX_SIZE", "S3_MIRROR_MIN_FREE"], ["", "1", "20GiB", "5gb", "1500MB"]),
        *product(["S3_MIRROR_MIN_FREE"], ["0"]),
        *product(["S3_MIRROR_POINTERS"], ["", "*", "bin/*.json", "a b,c"]),
        *product(STALE_TIMES, ["", "0", "31536000"]),
    ],
)
def test_a_right_value_is_taken(tmp_path: Path, name: str, value: str) -> None:
    written = write_conf(tmp_path, {**NAMED, name: value})
    assert (written.returncode, written.stderr) == (0, "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *product(FLAGS, ["2", "00", "tru", *HOSTILE]),
        *product(NETWORKS, [*BAD_NETWORKS, *HOSTILE]),
        *product(["FRONTEND_PROXIES"], ["0.0.0.0/0", "::/0", "10.0.0.0/8,::/0", "0.0.0.0/0,10.0.0.0/8"]),
        *product(LIMITS, [*BAD_LIMITS, *HOSTILE]),
        *product(["PKG_SERVER_FQDN"], [*BAD_NAMES, *HOSTILE]),
        *product(["PKG_SERVER_REGION"], ["a.b", "-", "a-", "a" * 54, *HOSTILE]),
        *product(["NGINX_RESOLVER"], ["::1", "10.0.0", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:53:53", "dns", *HOSTILE]),
        *product(["CERTBOT_EMAIL"], ["", "a", "@b.org", "a@b", "a@b@c.org", "a@b.org;", *HOSTILE]),
        *product(["S3_MIRROR_FQDN"], [*BAD_NAMES[1:], *HOSTILE]),
        *product(["S3_MIRROR_BUCKET_LIST"], [*BAD_BUCKETS, *(f"abc=http://a.b/{text}" for text in HOSTILE_IN_LISTS)]),
        *product(["S3_MIRROR_MAX_SIZE", "S3_MIRROR_MIN_FREE"], ["01", "1.5GiB", "20G", "-1", *HOSTILE]),
        *product(["S3_MIRROR_MAX_SIZE"], ["0", "0GiB"]),
        *product(["S3_MIRROR_POINTERS"], ["a\nb", "a;", "$host", "(a)", "a|b", '"', "'", "\\", "é", "a{2}"]),
        *product(STALE_TIMES, ["-1", "1.5", "31536001", "1d", *HOSTILE]),
    ],
)
def test_a_wrong_value_is_named_and_nothing_is_written(tmp_path: Path, name: str, value: str) -> None:
    written = write_conf(tmp_path, {**NAMED, name: value})
    assert written.returncode == 2
    assert written.stderr.startswith(f"{name}={value.replace('u:p@', '***@')}: expected ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("settings", [{"DISABLE_TLS": "1"}, {"TLS_CERTIFICATES_DIR": "own"}], ids=str)
def test_without_certbot_nobody_has_to_be_reached_by_mail(tmp_path: Path, settings: Mapping[str, str]) -> None:
    written = write_conf(tmp_path, {"PKG_SERVER_FQDN": "pkg.example.org", **settings})
    assert (written.returncode, written.stderr) == (0, "")


def test_every_wrong_value_is_named_at_once(tmp_path: Path) -> None:
    written = write_conf(tmp_path, {**NAMED, "DISABLE_TLS": "x", "METRICS_ALLOW": "y", "LIMIT_CONNECTIONS": "z"})
    assert [line.partition("=")[0] for line in written.stderr.splitlines()] == [
        "DISABLE_TLS",
        "METRICS_ALLOW",
        "LIMIT_CONNECTIONS",
    ]


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (NAMED, "pkg.example.org"),
        (
            {"PKG_SERVER_REGION": "eu", **MAIL},
            "eu.pkg.julialang.org pkgserver-eu.ip.cflo.at pkgserver-eu.ipv4.cflo.at pkgserver-eu.ipv6.cflo.at",
        ),
        (
            {**NAMED, "PKG_SERVER_REGION": "eu", "DISABLE_INTERNAL_DNS_IPV6": "1"},
            "pkg.example.org pkgserver-eu.ip.cflo.at pkgserver-eu.ipv4.cflo.at",
        ),
        ({"PKG_SERVER_REGION": "eu", "DISABLE_INTERNAL_DNS": "1", **MAIL}, "eu.pkg.julialang.org"),
    ],
)
def test_the_names_are_those_of_the_original(tmp_path: Path, settings: Mapping[str, str], names: str) -> None:
    write_conf(tmp_path, settings)
    for server in ("tls.conf", "redirect.conf", "plain.conf"):
        assert f"\n    server_name {names};\n" in (tmp_path / server).read_text("utf-8")


@pytest.mark.parametrize(
    ("settings", "ports"),
    [
        ({}, {80: "redirect.conf", 443: "site.conf", 8000: "site.conf"}),
        ({"KEEP_HTTP_8000": "0"}, {80: "redirect.conf", 443: "site.conf"}),
        ({"DISABLE_TLS": "1"}, {80: "site.conf", 8000: "site.conf"}),
        ({"DISABLE_TLS": "1", "KEEP_HTTP_8000": "0"}, {80: "site.conf"}),
    ],
)
def test_the_ports_are_those_that_were_asked_for(
    tmp_path: Path, settings: Mapping[str, str], ports: Mapping[int, str]
) -> None:
    write_conf(tmp_path, {**NAMED, **settings})
    found = {
        int(line.split()[1].rstrip(";")): next(part for part in ("redirect.conf", "site.conf") if part in text)
        for text in (path.read_text("utf-8") for path in tmp_path.glob("*.conf"))
        for line in text.splitlines()
        if line.startswith("    listen ") and "[" not in line
    }
    assert found == ports


def test_certbot_finds_what_it_is_to_get(tmp_path: Path) -> None:
    """As the scripts of the image look for it: a name and a key's path, each in a line of the same block."""
    write_conf(tmp_path, NAMED)
    lines = (tmp_path / "tls.conf").read_text("utf-8").splitlines()
    assert "    ssl_certificate_key /etc/letsencrypt/live/pkg.example.org/privkey.pem;" in lines
    others = [path for path in tmp_path.glob("*.conf") if path.name != "tls.conf"]
    assert not [path for path in others if "ssl_certificate" in path.read_text("utf-8")]


def test_certbot_gets_one_for_the_host_of_the_mirror_too(tmp_path: Path) -> None:
    write_conf(tmp_path, {**NAMED, "S3_MIRROR_FQDN": "mirror.example.org"})
    lines = (tmp_path / "mirror-host.conf").read_text("utf-8").splitlines()
    assert "    ssl_certificate_key /etc/letsencrypt/live/mirror.example.org/privkey.pem;" in lines
    redirect = (tmp_path / "redirect.conf").read_text("utf-8")
    assert "\n    server_name pkg.example.org mirror.example.org;\n" in redirect


@pytest.mark.integration
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"DISABLE_TLS": "1"},
        {"PKG_SERVER_FQDN": "pkgserver-1.example.org", "PKG_SERVER_REGION": "eu"},
        {"KEEP_HTTP_8000": "0", "PKG_SERVER_REGION": "eu"},
        {"PKG_SERVER_FQDN": "", "PKG_SERVER_REGION": "a" * 53},
        {"LIMIT_REQUESTS_PER_SECOND": "5", "LIMIT_CONNECTIONS": "5", "LIMIT_EXEMPT": "10.0.0.0/8,fd00::/8"},
        {"S3_MIRROR_BUCKET_LIST": "none", "S3_MIRROR_FQDN": "m.example.org"},
        {
            "S3_MIRROR_BUCKET_LIST": "a.bucket=https://a.b/c abc=http://[::1]:9/d;ttl=5",
            "S3_MIRROR_FQDN": "m.example.org",
        },
        {"SSL_CERT_FILE": "/nowhere.crt"},
        {
            "PKG_SERVER_FLAVORLESS": "true",
            "FRONTEND_PROXIES": "10.0.0.1,fd00::/8",
            "METRICS_ALLOW": "10.0.0.1,fd00::/8",
        },
    ],
    ids=str,
)
def test_nginx_takes_it_without_a_warning(tmp_path: Path, settings: Mapping[str, str]) -> None:
    make_certificate(tmp_path / "certificates", "pkg.example.org")
    make_certificate(tmp_path / "certificates" / "mirror", "m.example.org")
    places = {"/certificates/": f"{tmp_path}/certificates/"}
    everything = {**NAMED, "TLS_CERTIFICATES_DIR": "own", **settings}
    tested = check_configuration(tmp_path, everything, places)
    assert (tested.returncode, "[warn]" in tested.stderr) == (0, False), tested.stderr

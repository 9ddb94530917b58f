"""What `compose/check-env` says of a `.env`, and that whoever else reads such a file reads the same."""

from __future__ import annotations

import io
import json
import subprocess
from typing import TYPE_CHECKING

import pytest
from dotenv import dotenv_values
from tests.deployment.stack import ROOT

from pkgserver_trio.settings.grammar import BOOLEAN

if TYPE_CHECKING:
    from pathlib import Path

    from tests.deployment.containers import Engine

#: Enough to start.
RIGHT = "PKG_SERVER_REGION=us-east\nDISABLE_TLS=1\n"
SHA256 = "ab" * 32


def check(folder: Path, text: str, mode: int = 0o600) -> tuple[int, list[str]]:
    """Return the exit code for a `.env` of `text`, and the lines without the file's name."""
    (folder / ".env").write_bytes(text.encode())
    (folder / ".env").chmod(mode)
    command = [ROOT / "compose" / "check-env"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.stdout == ""
    return done.returncode, [line.removeprefix(".env: ") for line in done.stderr.splitlines()]


@pytest.mark.parametrize(
    "text",
    [
        RIGHT,
        RIGHT.replace("\n", "\r\n"),
        RIGHT.removesuffix("\n"),
        f"# a comment\n\n  \t\n{RIGHT}",
        "export PKG_SERVER_REGION='us-east'\nDISABLE_TLS=\"1\"\n",
        "PKG_SERVER_REGION=us-east # here\nDISABLE_TLS=1  # for now\nCERTBOT_EMAIL=\n",
        "PKG_SERVER_FQDN=pkg.example.org\nCERTBOT_EMAIL=admin+pkg@example.org\n",
        "PKG_SERVER_FQDN=pkg.example.org\nTLS_CERTIFICATES_DIR=/etc/our/certificates\n",
        RIGHT + 'S3_MIRROR_BUCKET_LIST="julialang2 julialangnightlies"\nS3_MIRROR_FQDN=mirror.example.org\n',
        RIGHT + "STORAGE_SERVERS=https://a.example.org,http://user:pa%24@b.example.org:8080/x\n",
        RIGHT + "STORAGE_SERVERS='https://user:pa$$word@a.example.org'\n",
        RIGHT + f"ADMIN_TOKEN_SHA256={SHA256}\nUPDATE_PERIOD=0.5\nPKG_SERVER_FLAVORLESS=true\n",
        RIGHT + "DISABLE_INTERNAL_DNS=1\nDISABLE_INTERNAL_DNS_IPV6=0\nKEEP_HTTP_8000=0\n",
        RIGHT + "METRICS_ALLOW=10.0.0.0/8,fd00::/8,192.0.2.7\nFRONTEND_PROXIES=192.0.2.0/24\n",
        RIGHT + "COMPOSE_PROFILES=monitoring\nGRAFANA_ADMIN_PASSWORD='a b$c'\n",
        RIGHT + "STORE1_DIR=/disk1/store\nSTORE2_DIR=../more/store-2\nINSIDE_SUBNET=10.1.2.0/24\n",
        RIGHT + "INSIDE_SUBNET=10.1.2.16/28\n",
        RIGHT + "INSIDE_SUBNET=10.1.0.0/16\n",
        RIGHT + "SERVER_MEMORY=128m\nSERVER_CPUS=0.5\nIMAGE_POLL_SECONDS=10\n",
        RIGHT + "SERVER_MEMORY=64g\nSERVER_CPUS=1\nIMAGE_POLL_SECONDS=0\n",
        RIGHT + "JULIA_PKG_SERVER_FLAVORLESS=on\nKEEP_HTTP_8000=True\n",
    ],
)
def test_right_file_is_passed_without_a_word(text: str, tmp_path: Path) -> None:
    assert check(tmp_path, text) == (0, [])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("what", "line 3: expected NAME=value"),
        ("A B=1", "line 3: expected NAME=value"),
        ("DISABLE_TLS=0", "line 3: DISABLE_TLS is there for the second time"),
        ("S3_MIRROR_BUCKET_LIST=one two", "line 3: S3_MIRROR_BUCKET_LIST has a space in it: put the value in quotes"),
        ('CERTBOT_EMAIL="a@b.org', "line 3: CERTBOT_EMAIL has a quote that is not closed"),
        ("CERTBOT_EMAIL='a'b", "line 3: CERTBOT_EMAIL goes on after its quotes"),
        *(
            (line, "line 3: STATE_DIR has an escape or a variable in quotes")
            for line in ('STATE_DIR="$HOME/x"', 'STATE_DIR="`id`"', 'STATE_DIR="a\\b"', "STATE_DIR='a\\b'")
        ),
        *(
            (line, "line 3: STATE_DIR has a character that needs single quotes around the value")
            for line in ("STATE_DIR=$HOME/x", "STATE_DIR=`id`", "STATE_DIR=a\\b", "STATE_DIR=a'b'")
        ),
        *(
            (line, "line 3: STATE_DIR has a # that not everybody takes for a comment")
            for line in ("STATE_DIR=#a", "STATE_DIR= # none", "STATE_DIR=a\t# here")
        ),
        ("PKG_SERVER_FQDN=a", "PKG_SERVER_FQDN is 'a', expected a host name with a dot in it"),
        ("PKG_SERVER_FLAVORLESS=2", "PKG_SERVER_FLAVORLESS is '2', expected 1 or 0"),
        ("JULIA_PKG_SERVER_FLAVORLESS=2", "JULIA_PKG_SERVER_FLAVORLESS is '2', expected true or false"),
        ("PKG_SERVER_FQDN=a.b;c", "PKG_SERVER_FQDN is 'a.b;c', expected a host name with a dot in it"),
        ("KEEP_HTTP_8000=maybe", "KEEP_HTTP_8000 is 'maybe', expected 1 or 0"),
        ("CERTBOT_EMAIL=nobody", "CERTBOT_EMAIL is 'nobody', expected an e-mail address"),
        ("CERTBOT_EMAIL=a@b..org", "CERTBOT_EMAIL is 'a@b..org', expected an e-mail address"),
        ("S3_MIRROR_BUCKET_LIST='one;ttl=x'", "S3_MIRROR_BUCKET_LIST is 'one;ttl=x', expected names of buckets"),
        ("S3_MIRROR_BUCKET_LIST='one=ftp://a'", "S3_MIRROR_BUCKET_LIST is 'one=ftp://a', expected names of buckets"),
        ("S3_MIRROR_BUCKET_LIST='one one'", "S3_MIRROR_BUCKET_LIST is 'one one', expected names of buckets"),
        ("S3_MIRROR_MAX_SIZE=20G", "S3_MIRROR_MAX_SIZE is '20G', expected a size"),
        ("STORAGE_SERVERS=ftp://a", "STORAGE_SERVERS is wrong, expected http or https URLs, comma separated"),
        ("STORAGE_SERVERS='https://s3cr3t@a, https://b'", "STORAGE_SERVERS is wrong, expected http or https URLs"),
        ("ADMIN_TOKEN_SHA256=secret", "ADMIN_TOKEN_SHA256 is wrong, expected 64 hexadecimal digits, or none"),
        ("UPDATE_PERIOD=0", "UPDATE_PERIOD is '0', expected a number of seconds from 0.1 to 600"),
        ("UPDATE_PERIOD=1e2", "UPDATE_PERIOD is '1e2', expected a number of seconds from 0.1 to 600"),
        ("PKGSERVER_DRAIN_SECONDS=4000", "PKGSERVER_DRAIN_SECONDS is '4000', expected a number of seconds"),
        ("METRICS_ALLOW=everybody", "METRICS_ALLOW is 'everybody', expected networks"),
        ("FRONTEND_PROXIES=0.0.0.0/0", "FRONTEND_PROXIES is '0.0.0.0/0', expected networks"),
        ("LIMIT_CONNECTIONS=0", "LIMIT_CONNECTIONS is '0', expected a whole number from 1 to 100000"),
        ("INSIDE_SUBNET=10.0.0.0/8", "INSIDE_SUBNET is '10.0.0.0/8', expected an IPv4 network from /16 to /28"),
        ("INSIDE_SUBNET=10.0.0.16/27", "INSIDE_SUBNET is '10.0.0.16/27', expected an IPv4 network"),
        ("INSIDE_SUBNET=10.0.1.0/16", "INSIDE_SUBNET is '10.0.1.0/16', expected an IPv4 network"),
        ("PKGSERVER_IMAGE='a b'", "PKGSERVER_IMAGE is 'a b', expected the name of an image"),
        *(
            (f"SERVER_MEMORY={size}", f"SERVER_MEMORY is '{size}', expected a size from 128m on")
            for size in ("64m", "2G", "0g", "1g2m", "2", "m")
        ),
        *(
            (f"SERVER_CPUS={number}", f"SERVER_CPUS is '{number}', expected a number from 0.1 to")
            for number in ("0", "0.05", "9999", "1e1", "1.", ".5")
        ),
        *(
            (f"IMAGE_POLL_SECONDS={number}", f"IMAGE_POLL_SECONDS is '{number}', expected a whole number of seconds")
            for number in ("9", "00", "15m", "-1", "604801")
        ),
        ("STATE_DIR='/a b'", "STATE_DIR is '/a b', expected a path of letters, digits and . _ / @ + -"),
        ("STATE_DIR=~/x", "STATE_DIR is '~/x', expected a path of letters, digits and . _ / @ + -"),
        *(
            (f"STATE_DIR={path}", f"STATE_DIR is '{path}', expected a path")
            for path in ("/", ".", "./", "..", "../../")
        ),
        ("COMPOSE_PROFILES=all", "COMPOSE_PROFILES is 'all', expected monitoring, or nothing"),
        ("COMPOSE_PROFILES=monitoring", "GRAFANA_ADMIN_PASSWORD is missing: the profile monitoring starts Grafana"),
        *(
            (line, "STORE1_DIR and STORE2_DIR are the same")
            for line in (
                *("STORE1_DIR=/x\nSTORE2_DIR=/x", "STORE1_DIR=x\nSTORE2_DIR=./x/", "STORE1_DIR=state/store2"),
                "STATE_DIR=/x\nSTORE2_DIR=/x/store1",
            )
        ),
        (
            "STORAGE_SERVERS=https://a\nJULIA_PKG_SERVER_STORAGE_SERVERS=https://b",
            "STORAGE_SERVERS and JULIA_PKG_SERVER_STORAGE_SERVERS are the same setting: remove one",
        ),
    ],
)
def test_wrong_line_is_named(line: str, said: str, tmp_path: Path) -> None:
    code, lines = check(tmp_path, f"{RIGHT}{line}\n")
    assert code == 1
    assert next(told for told in lines if not told.startswith("note: ")).startswith(said)
    assert "s3cr3t" not in "".join(lines)


def test_everything_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    code, lines = check(tmp_path, "UPDATE_PERIOD=x\n")
    assert code == 1
    assert [line.split()[0] for line in lines] == ["UPDATE_PERIOD", "PKG_SERVER_REGION", "CERTBOT_EMAIL"]


def test_wrong_value_is_not_called_missing_too(tmp_path: Path) -> None:
    _, lines = check(tmp_path, 'PKG_SERVER_REGION="us\nCERTBOT_EMAIL="a@b.org\n')
    assert len(lines) == 2


def test_missing_file_says_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run([ROOT / "compose" / "check-env"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, ".env is missing: copy .env.example to .env and edit it\n")


def test_names_that_do_nothing_are_told_and_stop_nothing(tmp_path: Path) -> None:
    code, lines = check(
        tmp_path,
        RIGHT
        + "DISABLE_TSL=1\nJULIA_PKG_SERVER_STORAGE_ROOT=/x\nJULIA_PKG_SERVER_FQDN=a.b\n"
        + "PKGSERVER_MIRROR_BUCKETS=ours\n",
    )
    assert code == 0
    assert lines == [
        "note: nobody knows DISABLE_TSL: a misspelling?",
        "note: JULIA_PKG_SERVER_STORAGE_ROOT does nothing here: compose/compose.yaml sets it",
        "note: JULIA_PKG_SERVER_FQDN does nothing here: compose/compose.yaml sets it",
        "note: PKGSERVER_MIRROR_BUCKETS does nothing here: the mirror is the front end, S3_MIRROR_BUCKET_LIST",
    ]
    assert check(tmp_path, RIGHT + "PKGSERVER_MIRROR_BUCKETS=none\n") == (0, [])


def test_the_mirror_needs_another_name_than_the_packages(tmp_path: Path) -> None:
    names = "PKG_SERVER_FQDN=pkg.example.org\nS3_MIRROR_FQDN={}.example.org\nDISABLE_TLS=1\n"
    assert check(tmp_path, names.format("mirror"))[0] == 0
    code, lines = check(tmp_path, names.format("pkg"))
    assert (code, [line.split()[0] for line in lines]) == (1, ["S3_MIRROR_FQDN"])


def test_a_password_in_a_wrong_list_of_buckets_is_not_shown(tmp_path: Path) -> None:
    code, lines = check(tmp_path, RIGHT + 'S3_MIRROR_BUCKET_LIST="ours=https://key:s3cr3t@s3.example.org/ours"\n')
    assert code == 1
    assert "ours=https://***@s3.example.org/ours" in lines[0]
    assert "s3cr3t" not in lines[0]


SECRETS = [
    "ADMIN_TOKEN_SHA256=" + SHA256,
    "JULIA_PKG_SERVER_ADMIN_TOKEN_SHA256=" + SHA256,
    "GRAFANA_ADMIN_PASSWORD=x",
    "STORAGE_SERVERS=https://user:word@a.example.org",
]


@pytest.mark.parametrize("line", SECRETS)
def test_file_with_a_secret_that_everybody_can_read_is_told_and_stops_nothing(line: str, tmp_path: Path) -> None:
    note = "note: it has secrets, and every user of this host can read it: chmod o-rwx .env"
    assert check(tmp_path, f"{RIGHT}{line}\n", 0o644) == (0, [note])
    assert check(tmp_path, f"{RIGHT}{line}\n", 0o640) == (0, [])


def test_file_without_a_secret_may_be_read_by_everybody(tmp_path: Path) -> None:
    assert check(tmp_path, RIGHT + "STORAGE_SERVERS=https://a.example.org\n", 0o644) == (0, [])


def test_example_needs_a_name_and_a_mail_address_only(tmp_path: Path) -> None:
    _, lines = check(tmp_path, (ROOT / ".env.example").read_text())
    assert [line.split()[0] for line in lines] == ["PKG_SERVER_REGION", "CERTBOT_EMAIL"]


VALUES = [
    *("plain", "a#b", "a=b", "a # comment", "'a b'", '"a b"', "'$HOME'", '"a#b"', "'a' # comment", '"it\'s"', "'\"'"),
    *("", '""', " a", "a\t", "a\t #b", "'a'\t#b", "a;b&c|d", "*"),
]


def write_values(folder: Path, newline: str) -> list[str]:
    """Write a `.env` of the values, and return what `read_dotenv` reads."""
    lines = [f"NAME{number}={value}" for number, value in enumerate(VALUES)]
    (folder / ".env").write_bytes(newline.join([*lines, ""]).encode())
    show = 'for name in $names; do eval "echo \\"\\$env_$name\\""; done'
    script = f'complain() {{ echo "$1" >&2; exit 1; }}; . "$1"; read_dotenv .env; {show}'
    command = ["sh", "-c", script, "sh", str(ROOT / "compose" / "dotenv")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_server_reads_each_value_as_the_check_does(newline: str, tmp_path: Path) -> None:
    read = write_values(tmp_path, newline)
    text = (tmp_path / ".env").read_bytes().decode()
    assert read == list(dotenv_values(stream=io.StringIO(text), interpolate=False).values())


@pytest.mark.integration
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_compose_reads_each_value_as_the_check_does(engine: Engine, newline: str, tmp_path: Path) -> None:
    read = write_values(tmp_path, newline)
    environment = {f"NAME{number}": f"${{NAME{number}}}" for number in range(len(VALUES))}
    service = {"image": "any", "env_file": [".env"], "labels": environment}
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": {"any": service}}))
    done = engine.run("docker", "compose", "config", "--format", "json", cwd=tmp_path)
    seen = json.loads(done.stdout.replace("$$", "$"))["services"]["any"]
    for reader in ("environment", "labels"):
        assert [seen[reader][name] for name in environment] == read


@pytest.mark.parametrize("text", ["1", "0", "true", "False", "YES", "no", "oN", "off", "2", "t", "o", "yess", "01"])
def test_flag_means_to_the_shell_what_it_means_to_the_server(text: str) -> None:
    script = '. "$1"; is_flag "$2" || exit 2; is_set "$2"'
    command = ["sh", "-c", script, "sh", str(ROOT / "compose" / "nginx" / "checks"), text]
    said = {0: True, 1: False, 2: None}[subprocess.run(command, check=False).returncode]
    try:
        meant = BOOLEAN.parse(text)
    except ValueError:
        meant = None
    assert said is meant

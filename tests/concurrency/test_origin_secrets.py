"""Private origins: their tokens open them, go to their own hosts, and are in no log, no error and no repr."""

from __future__ import annotations

import io
import logging
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
import structlog
from tests.fakes import Behaviour, FakeNetwork, FakeTransport, FakeUpstream, Request, redirect
from tests.origin_fakes import (
    API,
    MISSING_HASH,
    PROJECT,
    UUID,
    WEB,
    FakeForge,
    commit,
    each_forge,
    history,
    opened,
    outcome,
)

from pkgserver_trio.registries.origin_check import Outcome, open_origins
from pkgserver_trio.registries.origins import Forge
from pkgserver_trio.settings import Settings, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trio.testing import MockClock

TOKEN = "s3cr3t-token"
Logged: TypeAlias = list[MutableMapping[str, Any]]


@pytest.fixture
def logged() -> Iterator[Logged]:
    """Everything that is logged, the libraries' own chatter included."""
    chatter = io.StringIO()
    handler = logging.StreamHandler(chatter)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with structlog.testing.capture_logs() as lines:
            yield lines
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
        assert TOKEN not in chatter.getvalue()
        assert TOKEN not in repr(lines)


def tokens_file(folder: Path, text: str, mode: int = 0o600) -> str:
    path = folder / "tokens"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@each_forge
async def test_a_private_project_is_seen_with_its_token_only(forge: Forge, tmp_path: Path, logged: Logged) -> None:
    host = FakeForge(forge, history(1), token=TOKEN)
    async with opened(host) as (origins, _):
        verdict = await origins.check(UUID, commit(1).tree_hash)
        assert (verdict.outcome, "a token may be missing" in verdict.reason) == (Outcome.UNKNOWN, True)
    wrong = tokens_file(tmp_path, f"{WEB[forge]}=other\n")
    async with opened(host, PKGSERVER_ORIGIN_TOKENS_FILE=wrong) as (origins, _):
        verdict = await origins.check(UUID, MISSING_HASH)
        assert (verdict.outcome, "its token may lack" in verdict.reason) == (Outcome.UNKNOWN, True)
    right = tokens_file(tmp_path, f"{WEB[forge]}={TOKEN}\n")
    async with opened(host, PKGSERVER_ORIGIN_TOKENS_FILE=right) as (origins, transport):
        assert await outcome(origins, commit(1).tree_hash) is Outcome.CONFIRMED
        kind = "token" if forge is Forge.GITEA else "Bearer"
        assert transport.seen[0].headers["authorization"] == f"{kind} {TOKEN}"


async def test_a_password_in_the_origins_url_is_its_token(logged: Logged) -> None:
    host = FakeForge(Forge.GITLAB, history(1), token=TOKEN)
    registries = f"{UUID}=https://oauth2:{TOKEN}@gitlab.com/{PROJECT}"
    async with opened(host, PKGSERVER_REGISTRIES=registries) as (origins, _):
        assert await outcome(origins, commit(1).tree_hash) is Outcome.CONFIRMED


@each_forge
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_renamed_project_is_followed_within_its_host(
    forge: Forge, status: int, tmp_path: Path, logged: Logged
) -> None:
    host = FakeForge(forge, history(1), token=TOKEN)

    def renamed(request: Request) -> Behaviour:
        old = request.path.replace("old", PROJECT.partition("/")[2])
        return Behaviour(status=status, headers={"location": old}) if old != request.path else host(request)

    transport = FakeTransport(script=renamed)
    texts = {
        "PKGSERVER_REGISTRIES": f"{UUID}=https://{WEB[forge]}/{PROJECT.partition('/')[0]}/old",
        "PKGSERVER_ORIGIN_TOKENS_FILE": tokens_file(tmp_path, f"{WEB[forge]}={TOKEN}"),
    }
    async with open_origins(Settings.from_mapping(texts), transport=FakeNetwork({API[forge]: transport})) as origins:
        assert await outcome(origins, commit(1).tree_hash) is Outcome.CONFIRMED


@pytest.mark.parametrize("scheme", ["https", "http"])
async def test_a_token_is_never_told_to_another_host(
    autojump_clock: MockClock, scheme: str, tmp_path: Path, logged: Logged
) -> None:
    thief = FakeTransport(script=lambda _: Behaviour(body=b"[]"))
    lure = FakeTransport(script=lambda _: redirect(f"{scheme}://thief.invalid/{TOKEN}"))
    network = FakeNetwork({"api.github.com": lure, "thief.invalid": thief})
    texts = {"PKGSERVER_ORIGIN_TOKENS_FILE": tokens_file(tmp_path, f"github.com={TOKEN}\nthief.invalid={TOKEN}2\n")}
    async with open_origins(Settings.from_mapping(texts), transport=network) as origins:
        verdict = await origins.check(UUID, MISSING_HASH)
    assert verdict.outcome is Outcome.UNKNOWN
    assert TOKEN not in repr(verdict)
    assert thief.seen == []


@pytest.mark.parametrize(
    "what", [Behaviour(garbage=b"x" + TOKEN.encode()), Behaviour(status=500, body=TOKEN.encode()), None]
)
async def test_over_real_sockets_a_token_is_in_no_reason_and_no_log(
    what: Behaviour | None, tmp_path: Path, logged: Logged
) -> None:
    host = FakeForge(Forge.GITEA, history(1), token=TOKEN, overrides=[what] if what else [])
    async with FakeUpstream(script=host) as upstream:
        place = upstream.url.removeprefix("http://")
        texts = {
            "PKGSERVER_REGISTRIES": f"{UUID}=gitea+{upstream.url}/{PROJECT}",
            "PKGSERVER_ORIGIN_TOKENS_FILE": tokens_file(tmp_path, f"{place}={TOKEN}"),
        }
        async with open_origins(Settings.from_mapping(texts)) as origins:
            verdict = await origins.check(UUID, commit(1).tree_hash)
    assert TOKEN not in repr(verdict)
    assert verdict.outcome is (Outcome.UNKNOWN if what else Outcome.CONFIRMED)
    assert upstream.seen[0].headers["authorization"] == f"token {TOKEN}"


async def test_a_token_is_not_sent_in_the_open(tmp_path: Path, logged: Logged) -> None:
    transport = FakeTransport(script=FakeForge(Forge.GITLAB, history(1)))
    texts = {
        "PKGSERVER_REGISTRIES": f"{UUID}=http://gitlab.com/{PROJECT}",
        "PKGSERVER_ORIGIN_TOKENS_FILE": tokens_file(tmp_path, f"gitlab.com={TOKEN}"),
    }
    async with open_origins(Settings.from_mapping(texts), transport=FakeNetwork({"gitlab.com": transport})) as origins:
        assert await outcome(origins, commit(1).tree_hash) is Outcome.CONFIRMED
    assert not any("authorization" in request.headers for request in transport.seen)
    assert [line["event"] for line in logged] == ["a token is not sent in the open: give its origin as https"]


NOTES = [
    ({"PKGSERVER_ORIGIN_CHECK": "off"}, "origin check is off: no new registry head is compared with its origin"),
    ({"PKGSERVER_REGISTRIES": "*"}, "new registry heads are not checked: of all registries no origin is known"),
    ({"PKGSERVER_REGISTRIES": UUID}, "new heads of this registry are not checked: it has no origin"),
    (
        {"PKGSERVER_REGISTRIES": f"{UUID}=https://u:{TOKEN}@git.example.org/a"},
        "new heads of this registry are not checked: unknown git host",
    ),
    ({}, None),
]


@pytest.mark.parametrize(("texts", "event"), NOTES)
async def test_the_start_says_what_is_not_checked(texts: dict[str, str], event: str | None, logged: Logged) -> None:
    nobody = FakeTransport()
    async with open_origins(Settings.from_mapping(texts), transport=nobody):
        assert nobody.seen == []
    assert [line["event"] for line in logged] == ([] if event is None else [event])


@pytest.mark.parametrize(
    ("text", "mode", "event"),
    [
        (f"github.com={TOKEN}", 0o640, "others can read the tokens: chmod 600"),
        (f"github.com={TOKEN}", 0o604, "others can read the tokens: chmod 600"),
        (f"gitlab.com={TOKEN}", 0o600, "tokens for hosts of no origin"),
        (f"github.com={TOKEN}", 0o600, None),
    ],
)
async def test_the_start_says_what_is_wrong_with_tokens(
    text: str, mode: int, event: str | None, tmp_path: Path, logged: Logged
) -> None:
    texts = {"PKGSERVER_ORIGIN_TOKENS_FILE": tokens_file(tmp_path, text, mode)}
    async with open_origins(Settings.from_mapping(texts), transport=FakeNetwork({})):
        pass
    assert [line["event"] for line in logged] == ([] if event is None else [event])


async def start_error(**texts: str) -> str:
    with pytest.raises(SettingsError) as caught:
        async with open_origins(Settings.from_mapping(texts), transport=FakeNetwork({})):
            pytest.fail("started")
    assert caught.value.name in texts
    assert len(str(caught.value).splitlines()) == 1
    assert TOKEN not in repr(caught.value) + repr(caught.value.__cause__) + repr(caught.value.__context__)
    return str(caught.value)


async def test_wrong_origins_and_tokens_stop_the_start_with_one_line(tmp_path: Path, logged: Logged) -> None:
    name = "PKGSERVER_ORIGIN_TOKENS_FILE"
    path = tmp_path / "tokens"
    assert await start_error(**{name: str(path)}) == f"{name}: {path} cannot be read: No such file or directory"
    assert await start_error(**{name: str(tmp_path)}) == f"{name}: {tmp_path} cannot be read: Is a directory"
    path.write_bytes(f"\n{TOKEN}\xff\n".encode("latin-1"))
    path.chmod(0o600)
    assert await start_error(**{name: str(path)}) == f"{name}: {path}, line 2: expected host=token"
    path.write_text(f"github.com={TOKEN}\n" * 100_000)
    assert await start_error(**{name: str(path)}) == f"{name}: {path} is longer than 1048576 bytes"
    registries = f"{UUID}=https://u:{TOKEN}@github.com/General"
    line = await start_error(PKGSERVER_REGISTRIES=registries)
    assert line == "PKGSERVER_REGISTRIES: https://***@github.com/General names no project: expected the path owner/name"


def test_what_holds_a_token_does_not_show_it(tmp_path: Path) -> None:
    texts = {
        "PKGSERVER_REGISTRIES": f"{UUID}=gitlab+https://u:{TOKEN}@git.example.org/a/b",
        "PKGSERVER_ORIGIN_TOKENS_FILE": str(tmp_path),
    }
    assert TOKEN not in repr(Settings.from_mapping(texts))

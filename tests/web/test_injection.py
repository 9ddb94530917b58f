"""Control characters, of clients and of storage servers, reach no log line, no header and no page as they are."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import Behaviour, redirect
from tests.log_state import restored_logs
from tests.web.raw import connected

from pkgserver_trio import errors
from pkgserver_trio.logs.setup import configure_logs
from pkgserver_trio.web import answers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes import Request
    from tests.web.site import Serve

PATH = "/artifact/" + "1" * 40
#: Colours, a bell, a line of its own to look like ours, what some terminals take for a line's end, and bidi. As UTF-8.
EVIL = "\x1b[31m\x07\x7f\x85\u2028\u202e".encode().decode("latin-1")
_EVENT = re.compile(r"(\x1b\[2m)?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d")


@pytest.fixture(autouse=True)
def _restored_logs() -> Iterator[None]:
    with restored_logs():
        yield


def assert_harmless(text: str) -> None:
    assert [character for character in text if not " " <= character <= "~" and character != "\n"] == []


def assert_harmless_log(log: str, log_format: str) -> None:
    assert log
    assert_harmless(log)
    for line in log.splitlines():
        assert json.loads(line) if log_format == "json" else _EVENT.match(line) or line.startswith("  | ")


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize(
    "behaviour",
    [
        redirect(f"http://evil.invalid/{EVIL}"),
        redirect(f"{EVIL}://evil.invalid/"),
        redirect(f"http://{EVIL}/"),
        redirect(f"http://evil.invalid:{EVIL}/"),
        Behaviour(body=b"\x1b", headers={"etag": f'"{EVIL}"'}),
        Behaviour(body=b"x", headers={f"x{EVIL}": "y"}),
        Behaviour(body=b"x", headers={"content-length": EVIL}),
        Behaviour(body=b"x", headers={"transfer-encoding": EVIL}),
        Behaviour(body=b"x", headers={"x": "a\nforged: 1"}),
        Behaviour(body=b"x", headers={"x": "a\n\n2026-01-01 00:00:00 [error] forged"}),
    ],
)
async def test_what_a_storage_server_says_is_shown_escaped(serve: Serve, behaviour: Behaviour, log_format: str) -> None:
    def script(request: Request) -> Behaviour:
        return behaviour

    written: list[str] = []
    configure_logs(written.append, level="debug", log_format=log_format)
    site = await serve(script=script)
    for path in (PATH, "/readyz", f"{PATH}/name"):
        answer = await site.client.get(path)
        assert answer.status_code in {502, 503}
        assert_harmless(answer.text)
        for value in answer.headers.values():
            assert_harmless(value)
        assert path == "/readyz" or answer.text.count("\n") == 1
    assert_harmless_log("".join(written), log_format)


@pytest.mark.parametrize("log_format", ["text", "json"])
async def test_what_a_client_says_is_shown_escaped_or_not_at_all(serve: Serve, log_format: str) -> None:
    written: list[str] = []
    configure_logs(written.append, level="debug", log_format=log_format)
    site = await serve()
    forged = "%0d%0aSet-Cookie:%20forged=1"
    lines = (f"X-Request-Id: {EVIL}", f"X-Forwarded-For: {EVIL}", f"Range: {EVIL}", f"If-None-Match: {EVIL}")
    preferences = (f"Julia-Registry-Preference: {EVIL}", f"Julia-CI-Variables: {EVIL}=t")
    for path in ("/", "/registries", "/readyz", PATH, f"/{forged}", f"/?{forged}", f"/registries{forged}"):
        async with connected(site.port) as raw:
            await raw.ask(path, "Connection: close", *lines, *preferences)
            answer = await raw.rest()
        assert answer.startswith(b"HTTP/1.1 ")
        assert b"forged" not in answer
        assert_harmless(answer.decode("latin-1").replace("\r\n", "\n"))
    assert_harmless_log("".join(written), log_format)


async def test_a_path_that_is_logged_is_logged_escaped(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str) -> None:
        raise ValueError(f"{path}\x1b[31m\n2026-01-01 00:00:00 [error] forged")

    written: list[str] = []
    configure_logs(written.append, level="debug", log_format="text")
    monkeypatch.setattr("pkgserver_trio.web.app.Resource.parse", fail)
    site = await serve()
    answer = await site.client.get("/x")
    assert (answer.status_code, answer.text) == (500, "internal error\n")
    log = "".join(written)
    assert "ValueError" in log
    assert_harmless_log(log, "text")


@given(
    st.sampled_from([errors.NotFoundError, errors.UpstreamFailedError, errors.UpstreamSilentError]),
    st.text(st.characters(exclude_categories=())),
)
async def test_a_reason_is_one_printable_line(error: type[errors.ResourceUnavailableError], reason: str) -> None:
    body = await answers.unavailable(error(reason)).get_data(as_text=True)
    assert_harmless(body)
    assert body.count("\n") == 1
    assert len(body) <= 1001


@pytest.mark.parametrize(
    ("error", "status"), [(errors.QueueFullError("all full"), 503), (errors.PeerOverBoundError("too much"), 429)]
)
async def test_who_has_to_wait_is_told_so(error: errors.ResourceUnavailableError, status: int) -> None:
    answer = answers.unavailable(error)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (status, "no-store")
    assert int(answer.headers["Retry-After"]) > 0
    assert await answer.get_data() == f"{error}\n".encode()

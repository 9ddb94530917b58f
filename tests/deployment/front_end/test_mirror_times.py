"""What nginx makes of what an origin says, or does not: how long it keeps an object, and when it keeps none."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.behaviours import good
from tests.deployment.front_end.mirrored import cache_of, mirror, saying
from tests.fakes import FakeUpstream
from tests.web.raw import connected

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.deployment.front_end.running import FrontEnd

pytestmark = pytest.mark.integration

POINTER = "bin/versions.json"
WHILE, ERROR = ", stale-while-revalidate=86400", ", stale-if-error=604800"
FUTURE = "Thu, 01 Jan 2099 00:00:00 GMT"


def kept(front_end: FrontEnd) -> str:
    """Return for how long the one object is kept, as the inner hop has said it."""
    (file,) = (path for path in (front_end.folder / "mirror").rglob("*") if path.is_file())
    found = re.search(rb"\nCache-Control: (.*)\r\n", file.read_bytes())
    assert found is not None
    return found[1].decode()


@pytest.mark.parametrize(
    ("key", "headers", "expected"),
    [
        ("a", {}, f"max-age=1{WHILE}{ERROR}"),
        ("a", {"cache-control": "max-age=31536000"}, f"max-age=31536000{WHILE}{ERROR}"),
        ("a", {"cache-control": "max-age=600, s-maxage=60"}, "max-age=60"),
        ("a", {"cache-control": "max-age=600", "expires": FUTURE}, f"max-age=600{WHILE}{ERROR}"),
        ("a", {"cache-control": "max-age=600", "age": "5"}, f"max-age=1{WHILE}{ERROR}"),
        ("a", {"cache-control": "max-age=600", "age": "0"}, f"max-age=600{WHILE}{ERROR}"),
        ("a", {"cache-control": "max-age=600, must-revalidate"}, "max-age=600"),
        ("a", {"cache-control": "max-age=600, proxy-revalidate"}, "max-age=600"),
        (POINTER, {}, f"max-age=1{ERROR}"),
        (POINTER, {"cache-control": "max-age=31536000"}, f"max-age=60{ERROR}"),
        (POINTER, {"cache-control": "max-age=59"}, f"max-age=59{ERROR}"),
        (POINTER, {"cache-control": "max-age=600", "age": "5"}, f"max-age=1{ERROR}"),
        (POINTER, {"cache-control": "s-maxage=600"}, "max-age=60"),
        (POINTER, {"expires": FUTURE}, f"max-age=1{ERROR}"),
        (POINTER, {"cache-control": "max-age=600, must-revalidate"}, "max-age=60"),
    ],
)
async def test_an_object_is_kept_as_long_as_is_right(
    tmp_path: Path, key: str, headers: Mapping[str, str], expected: str
) -> None:
    answer = replace(good(b"old"), headers=headers)
    async with FakeUpstream(script=lambda _: answer) as origin, mirror(tmp_path, origin.url) as (front_end, client):
        assert (await cache_of(client, key))[0] == 200
        # A second request is answered from the file, so that it is there.
        assert (await cache_of(client, key))[1:] == ("HIT", b"old")
        assert kept(front_end) == expected


async def test_a_date_is_obeyed(tmp_path: Path) -> None:
    past = "Thu, 01 Jan 1970 00:00:00 GMT"
    now = replace(good(b"old"), headers={"expires": FUTURE})
    async with FakeUpstream(script=lambda _: now) as origin, mirror(tmp_path, origin.url) as (_, client):
        told = [await cache_of(client, "a") for _ in range(2)]
        assert [cache for _, cache, _ in told] == ["MISS", "HIT"]
        now = replace(good(b"old"), headers={"expires": past})
        told = [await cache_of(client, "b") for _ in range(2)]
        assert [cache for _, cache, _ in told] == ["MISS", "MISS"]


async def test_a_client_of_http_1_0_gets_what_has_a_length_and_nothing_that_may_break_off_unseen(
    tmp_path: Path,
) -> None:
    now = good(b"old")
    async with FakeUpstream(script=lambda _: now) as origin, mirror(tmp_path, origin.url) as (front_end, client):

        async def status(key: str) -> int:
            async with connected(front_end.ports[8000]) as raw:
                await raw.ask(f"/mirror/abc/{key}", version="1.0")
                return (await raw.head()).status

        assert await status("a") == 200
        now = replace(good(b"old"), declared_length=None)
        assert await status("b") == 502
        assert (await cache_of(client, "b"))[::2] == (200, b"old")


async def test_a_body_whose_end_nobody_sees_is_refused_and_not_kept(tmp_path: Path) -> None:
    async with (
        saying(b'HTTP/1.1 200 OK\r\nETag: "x"\r\nConnection: close\r\n\r\nhalf of i') as port,
        mirror(tmp_path, f"http://127.0.0.1:{port}") as (_, client),
    ):
        for _ in range(2):
            status, cache, body = await cache_of(client, "a")
            assert (status, cache == "HIT", b"half" in body) == (502, False, False)


async def test_an_origin_that_falls_silent_ends_in_an_error_and_nothing_is_kept(tmp_path: Path) -> None:
    now = replace(good(b"old"), never_answer=True)
    impatient = {"proxy_read_timeout 30s": "proxy_read_timeout 1s"}
    async with (
        FakeUpstream(script=lambda _: now) as origin,
        mirror(tmp_path, origin.url, impatient) as (_, client),
    ):
        assert (await cache_of(client, "a"))[0] in {502, 504}
        now = replace(good(b"x" * 200_000), stall_at=100_000)
        with pytest.raises(httpx.RemoteProtocolError):
            await cache_of(client, "b")
        now = good(b"old")
        for key in ("a", "b"):
            assert (await cache_of(client, key)) == (200, "MISS", b"old")

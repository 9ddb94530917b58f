"""HEAD: asked of the origin once in a while, and never for long against what GET says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from tests.behaviours import Behaviour, good
from tests.deployment.front_end.mirrored import cache_of, mirror
from tests.fakes import FakeUpstream
from tests.web.site import until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

KEY = "/mirror/abc/bin/julia.tar.gz"
OLD, NEW = good(b"old"), good(b"newer")


async def test_a_head_is_remembered_and_pulls_no_object(tmp_path: Path) -> None:
    async with FakeUpstream(script=lambda _: OLD) as origin, mirror(tmp_path, origin.url) as (front_end, client):
        assert (await client.head(KEY)).headers["ETag"] == OLD.etag
        # It is on its way before nginx has kept it.
        await until(lambda: any(path.is_file() for path in (front_end.folder / "tmp/mirror-heads").rglob("*")))
        for _ in range(5):
            head = await client.head(KEY)
            assert (head.headers["ETag"], head.headers["Content-Length"]) == (OLD.etag, "3")
        assert [request.method for request in origin.seen] == ["HEAD"]


async def test_a_head_never_tells_what_a_get_would_only_tell_while_the_origin_is_asked(tmp_path: Path) -> None:
    """Else who looks by HEAD, and fetches what has changed, would see nothing change."""
    now = OLD
    async with FakeUpstream(script=lambda _: now) as origin, mirror(tmp_path, origin.url) as (_, client):
        assert (await client.get(KEY)).content == b"old"
        now = NEW
        await trio.sleep(2.1)
        for _ in range(3):
            assert (await client.head(KEY)).headers["ETag"] == NEW.etag
        assert (await client.get(KEY)).headers["X-Cache"] == "STALE"
        await until(lambda: origin.requests("GET", "/bin/julia.tar.gz") == 2)


async def test_a_head_is_answered_by_what_is_kept_while_the_origin_fails(tmp_path: Path) -> None:
    now = OLD
    async with FakeUpstream(script=lambda _: now) as origin, mirror(tmp_path, origin.url) as (_, client):
        assert (await client.get(KEY)).content == b"old"
        now = Behaviour(status=503)
        await trio.sleep(2.1)
        head = await client.head(KEY)
        assert (head.status_code, head.headers["X-Cache"], head.headers["ETag"]) == (200, "STALE", OLD.etag)


async def test_a_failure_of_a_head_is_not_remembered(tmp_path: Path) -> None:
    now = Behaviour(status=503)
    async with FakeUpstream(script=lambda _: now) as origin, mirror(tmp_path, origin.url) as (_, client):
        assert (await client.head(KEY)).status_code == 502
        now = OLD
        assert (await client.head(KEY)).headers["ETag"] == OLD.etag
        assert (await cache_of(client, "bin/julia.tar.gz"))[::2] == (200, b"old")

"""The whole server in this process, on a loopback port, in front of a scripted upstream."""

from __future__ import annotations

from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

import httpx
import trio
from tests.fakes import FakeUpstream, Pieces, good

from pkgserver_trio.main import Running, run
from pkgserver_trio.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.fakes import Behaviour, Script

    from pkgserver_trio.library import Library

STORAGE_SERVERS = "JULIA_PKG_SERVER_STORAGE_SERVERS"
PUBLIC_URL = "https://pkg.invalid"
#: No fact that a test waits for takes so long, but on a machine that hangs.
PATIENCE_SECONDS = 20


def settings_for(root: Path, **changes: str) -> Settings:
    """Return settings for a small and impatient server; `changes` are by the names that operators use."""
    mapping = {
        "JULIA_PKG_SERVER": "127.0.0.1:0",
        "JULIA_PKG_SERVER_STORAGE_ROOT": str(root),
        "JULIA_PKG_SERVER_REGISTRY_UPDATE_PERIOD": "0.1",
        "PKGSERVER_KEEP_FREE": "0",
        "PKGSERVER_ORIGIN_CHECK": "off",
        "PKGSERVER_PUBLIC_URL": PUBLIC_URL,
        "PKGSERVER_GRACEFUL_SECONDS": "0.3",
        "PKGSERVER_DRAIN_SECONDS": "0.3",
    }
    return Settings.from_mapping({**mapping, **changes})


@dataclass(frozen=True, slots=True)
class Site:
    """A running server, its upstream and a client of it."""

    root: Path
    upstream: FakeUpstream
    running: Running
    ended: trio.Event
    client: httpx.AsyncClient

    @property
    def library(self) -> Library:
        return self.running.library

    @property
    def port(self) -> int:
        return httpx.URL(self.running.url).port or 80

    @property
    def cached(self) -> set[str]:
        """The URL paths of what is in the cache, on disk."""
        cache = self.root / "cache"
        return {f"/{path.relative_to(cache)}" for path in cache.rglob("*") if path.is_file()}

    @property
    def unfinished(self) -> list[Path]:
        return list((self.root / "temp").iterdir())

    async def settle(self) -> None:
        """Return once no download runs: an answer is whole a little before its file is committed."""
        await until(lambda: not self.library.downloads.flights)

    async def when_ready(self) -> None:
        """Return once every flavor is served."""
        with trio.fail_after(PATIENCE_SECONDS):
            while (await self.client.get("/readyz")).json()["status"] != "ok":
                pass

    async def get_after_pause(self, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """Return the first answer that does not repeat an earlier failure."""
        with trio.fail_after(PATIENCE_SECONDS):
            while (answer := await self.client.get(path, headers=headers)).status_code == HTTPStatus.BAD_GATEWAY:
                pass
        return answer

    async def warm(self, path: str) -> httpx.Response:
        """Have `path` cached; return the answer of the hit."""
        await self.client.get(path)
        await self.settle()
        hit = await self.client.get(path)
        assert "X-Cache-Miss" not in hit.headers
        return hit

    async def stop(self) -> None:
        """Stop the server in the orderly way and return once it has given everything back."""
        await self.client.aclose()
        self.running.stopping.set()
        with trio.fail_after(PATIENCE_SECONDS):
            await self.ended.wait()


class Serve(Protocol):
    """How a test starts a server; all of them are stopped at the end of the test."""

    async def __call__(
        self,
        *,
        files: Mapping[str, bytes] = ...,
        script: Script = ...,
        ready: bool = False,
        **changes: str,
    ) -> Site: ...


def halved(body: bytes, release: trio.Event) -> Behaviour:
    """Return the answer of an upstream that holds the second half of `body` back until `release`."""
    return replace(good(body), pieces=Pieces(size=len(body) // 2 + 1, release=release))


async def until(is_so: Callable[[], object]) -> None:
    """Return once something holds that has no event of its own, being an effect of threads and sockets."""
    with trio.fail_after(PATIENCE_SECONDS):
        while True:
            if is_so():
                return
            await trio.lowlevel.checkpoint()


async def start_site(
    nursery: trio.Nursery, root: Path, files: Mapping[str, bytes], script: Script, changes: Mapping[str, str]
) -> Site:
    """Start an upstream in `nursery`, and a server before it on the store `root`."""
    ended = trio.Event()

    async def live(*, task_status: trio.TaskStatus[Site]) -> None:
        async with FakeUpstream(files, script) as upstream, trio.open_nursery() as inner:
            settings = settings_for(root, **{STORAGE_SERVERS: upstream.url, **changes})
            running: Running = await inner.start(run, settings, trio.Event())
            client = httpx.AsyncClient(base_url=running.url, timeout=PATIENCE_SECONDS, trust_env=False)
            task_status.started(Site(root, upstream, running, ended, client))
        ended.set()

    site: Site = await nursery.start(live)
    return site

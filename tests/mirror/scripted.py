"""Buckets of a scripted origin, in mirrors that all tests share: to start one for each would take most of the time."""

from __future__ import annotations

from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

import httpx
import trio
from tests.behaviours import good
from tests.fakes import FakeUpstream
from tests.mirror.targets import CONFIRMED, PATIENCE_SECONDS, Wishes, running_target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.behaviours import Request

OLD, NEW = good(b"old"), good(b"newer")
LONG_SECONDS: Final = 3600
#: For how many tests a mirror has buckets, of objects that are fresh for one second and of others.
_BUCKETS: Final = 40
#: Until what is fresh for one second is not any more: nginx counts whole ones.
_OVER_SECONDS: Final = {"nginx": 2.1, "server": 1.1}


class Mirrors:
    """Mirrors of one `kind` before an origin at `port`, one for each of the wishes that a test has."""

    def __init__(self, kind: str, port: int, folder: Path, stack: ExitStack) -> None:
        self.kind, self.port = kind, port
        self.over_seconds = _OVER_SECONDS[kind]
        self._folder, self._stack = folder, stack
        self._running: dict[Wishes, tuple[str, dict[int, Iterator[str]]]] = {}

    def new_bucket(self, wishes: Wishes, ttl_seconds: int) -> tuple[str, str]:
        """Return the URL of a bucket that nobody has used, in a mirror that does as wished, and its name."""
        if wishes not in self._running:
            self._running[wishes] = self._start(wishes)
        url, unused = self._running[wishes]
        name = next(unused[ttl_seconds])
        return f"{url}/{name}", name

    def _start(self, wishes: Wishes) -> tuple[str, dict[int, Iterator[str]]]:
        names = {ttl: [f"ttl-{ttl}-{number}" for number in range(_BUCKETS)] for ttl in (1, LONG_SECONDS)}
        buckets = [
            f"{name}=http://127.0.0.1:{self.port}/{name};ttl={ttl}" for ttl, some in names.items() for name in some
        ]
        folder = self._folder / str(len(self._running))
        folder.mkdir()
        url = self._stack.enter_context(running_target(self.kind, folder, " ".join(buckets), wishes))
        return url, {ttl: iter(some) for ttl, some in names.items()}


class Bucket:
    """An origin whose objects are all `now`, and a client of the bucket `name` in the mirror before it."""

    def __init__(self, name: str, origin: FakeUpstream, client: httpx.AsyncClient, over_seconds: float) -> None:
        self.now = OLD
        self.name, self.client = name, client
        self._origin, self._over_seconds = origin, over_seconds

    async def get(self, key: str, **headers: str) -> httpx.Response:
        return await self.client.get(f"/{key}", headers=headers)

    async def told(self, key: str) -> tuple[int, bytes, str | None]:
        answer = await self.get(key)
        return answer.status_code, answer.content, answer.headers.get("X-Cache")

    async def recovers(self, key: str) -> bytes:
        """Return an object once the mirror asks for it again: it leaves a failing origin alone for a moment."""
        with trio.fail_after(PATIENCE_SECONDS):
            while (answer := await self.get(key)).status_code == 502:
                pass
        return answer.content

    async def hold(self, key: str) -> None:
        """Have an object, as it is now, in the mirror's cache."""
        assert (await self.get(key)).status_code == 200
        with trio.fail_after(PATIENCE_SECONDS):
            while (await self.get(key)).headers["X-Cache"] not in {"HIT", *CONFIRMED}:
                pass

    async def over(self) -> None:
        """Return when what is fresh for a second is so no more."""
        await trio.sleep(self._over_seconds)

    @property
    def seen(self) -> list[Request]:
        """The requests that the origin got for this bucket."""
        return [request for request in self._origin.seen if request.path.startswith(f"/{self.name}/")]

    async def asked(self, key: str) -> None:
        """Return once the origin was asked for an object."""
        await self._origin.wait_for("GET", f"/{self.name}/{key}")

    def fetched(self, key: str) -> int:
        """Return how often the origin has sent the object from its start on."""
        return sum(
            (seen.method, seen.path) == ("GET", f"/{self.name}/{key}") and "if-none-match" not in seen.headers
            for seen in self.seen
        )


@asynccontextmanager
async def bucket_of(
    mirrors: Mirrors, wishes: Wishes | None = None, *, ttl_seconds: int = LONG_SECONDS
) -> AsyncIterator[Bucket]:
    """Yield a bucket with nothing cached, whose origin runs until then."""
    url, name = mirrors.new_bucket(wishes or Wishes(), ttl_seconds)
    origin = FakeUpstream(script=lambda _: bucket.now)
    origin.port = mirrors.port
    async with origin, httpx.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS, trust_env=False) as client:
        bucket = Bucket(name, origin, client, mirrors.over_seconds)
        yield bucket

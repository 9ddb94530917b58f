"""The registries: what each storage server lists, which head is newest, and its publication once its tarball is held.

1. Every storage server is polled by a task of its own, so that one that hangs delays no news of another.
2. A flavor is decided anew whenever one of its polls brought news; only servers that answered last time are heard.
3. A head is published when its tarball is in the store, verified; until then the old one is served. What was published
   is on disk before it is served, and is served again after a restart with every storage server down.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import structlog
import trio

from pkgserver_trio.consensus import Knowledge, ranked
from pkgserver_trio.errors import ResourceUnavailableError, UpstreamError
from pkgserver_trio.registry_list import parse_listing, render_listing
from pkgserver_trio.resource import Kind, Resource
from pkgserver_trio.settings import AllRegistries, RegistryChoice
from pkgserver_trio.validators import parse_http_date

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from pkgserver_trio.disk import Disk
    from pkgserver_trio.upstream import ListingAnswer, StorageServer

#: Every so often a listing is asked for without its validator: tags that a file server made of times can lie.
UNCONDITIONAL_SECONDS = 60
_NOT_ASKED = "not asked yet"
#: The path below `static/` and in URLs, by flavor; the flavorless list has the empty name.
FLAVORS = ("conservative", "eager")


def listing_name(flavor: str) -> str:
    """Return the name of a flavor's listing, in `static/` and in URLs."""
    return f"registries.{flavor}" if flavor else "registries"


@dataclass
class Poll:
    """What one storage server said last about one flavor. Times are Trio's, in seconds."""

    server: StorageServer
    heads: Mapping[str, str] = field(default_factory=dict)
    etag: str | None = None
    last_modified: float | None = None
    asked_whole: float = float("-inf")
    succeeded: float | None = None
    error: str | None = _NOT_ASKED

    @property
    def failing(self) -> bool:
        """The last question was not answered."""
        return self.error not in {None, _NOT_ASKED}

    async def ask(self, name: str) -> bool:
        """Ask the server for its listing; tell whether there is news. Raises nothing: `error` says what failed."""
        now = trio.current_time()
        conditional = self.error is None and now - self.asked_whole < UNCONDITIONAL_SECONDS
        before = (self.heads, self.error)
        try:
            answer = await self.server.fetch_listing(f"/{name}", self.etag if conditional else None)
        except UpstreamError as failure:
            self.error = failure.reason
        else:
            self._hear(answer, now)
        return before != (self.heads, self.error)

    def _hear(self, answer: ListingAnswer | None, now: float) -> None:
        self.succeeded, self.error = trio.current_time(), None
        if answer is not None:
            self.heads = parse_listing(answer.body).heads
            self.etag, self.asked_whole = answer.etag, now
            self.last_modified = parse_http_date(answer.last_modified) if answer.last_modified else None


class Flavor:
    """One list of registry heads: polled, decided, published."""

    def __init__(
        self,
        name: str,
        servers: Sequence[StorageServer],
        hold: Callable[[Resource], Awaitable[None]],
        choices: tuple[RegistryChoice, ...] | AllRegistries,
        *,
        period_seconds: float,
        publish: Callable[[str, bytes], Awaitable[None]],
        listing: bytes | None,
    ) -> None:
        self.name = name
        self.polls = [Poll(server) for server in servers]
        self._hold = hold
        self._chosen = None if isinstance(choices, AllRegistries) else {choice.uuid for choice in choices}
        before = parse_listing(listing or b"").heads.items()
        self.published = {uuid: head for uuid, head in before if self._is_chosen(uuid)}
        self.listing = render_listing(self.published) if self.published else None
        self._period_seconds = period_seconds
        self._publish = publish
        self._knows: dict[tuple[str, str], Knowledge] = {}  # server and hash; only YES is for ever
        self._news = trio.Event()
        self._log = structlog.get_logger().bind(flavor=name or "(flavorless)")

    async def run(self) -> None:
        """Follow the storage servers for ever."""
        async with trio.open_nursery() as nursery:
            for poll in self.polls:
                nursery.start_soon(self._keep_asking, poll)
            while True:
                await self._news.wait()
                self._news = trio.Event()
                await self._decide()

    async def _keep_asking(self, poll: Poll) -> None:
        while True:
            was_failing = poll.failing
            if await poll.ask(listing_name(self.name)) or not self._is_settled(poll):
                self._news.set()
            if poll.failing and not was_failing:
                self._log.warning("storage server gives no registries", server=poll.server.name, error=poll.error)
            elif was_failing and not poll.failing:
                self._log.info("storage server gives registries again", server=poll.server.name)
            await trio.sleep(self._period_seconds)

    def _is_settled(self, poll: Poll) -> bool:
        """Tell whether all that the server lists is published; what is not is tried again every period."""
        return poll.error is not None or all(self.published.get(uuid) == head for uuid, head in self._wanted(poll))

    def _wanted(self, poll: Poll) -> list[tuple[str, str]]:
        return [(uuid, head) for uuid, head in poll.heads.items() if self._is_chosen(uuid)]

    def _is_chosen(self, uuid: str) -> bool:
        return self._chosen is None or uuid in self._chosen

    async def _decide(self) -> None:
        heard = [poll for poll in self.polls if poll.error is None]
        uuids = sorted({uuid for poll in heard for uuid, _ in self._wanted(poll)})
        async with trio.open_nursery() as nursery:
            for uuid in uuids:
                nursery.start_soon(self._decide_one, uuid, [poll for poll in heard if uuid in poll.heads])

    async def _decide_one(self, uuid: str, heard: Sequence[Poll]) -> None:
        published = self.published.get(uuid)
        candidates = {poll.heads[uuid] for poll in heard}
        knowledge = await self._ask_around(uuid, candidates) if len(candidates) > 1 else {}
        for poll in heard:
            knowledge.setdefault(poll.server.name, {})[poll.heads[uuid]] = Knowledge.YES
        dates = {poll.heads[uuid]: poll.last_modified for poll in heard}
        for head in ranked(candidates, knowledge, published=published, last_modified=dates):
            if head == published or await self._adopt(uuid, head):
                return

    async def _adopt(self, uuid: str, head: str) -> bool:
        try:
            await self._hold(Resource(Kind.REGISTRY, head, uuid))
            heads = {**self.published, uuid: head}
            await self._publish(listing_name(self.name), render_listing(heads))
        except (ResourceUnavailableError, OSError) as error:
            self._log.warning("new registry head is not to be had", registry=uuid, head=head, error=str(error))
            return False
        self.published[uuid] = head
        self.listing = render_listing(self.published)
        self._log.info("published registry head", registry=uuid, head=head)
        return True

    async def _ask_around(self, uuid: str, hashes: set[str]) -> dict[str, dict[str, Knowledge]]:
        """Ask every server about every hash; a yes is remembered for ever, everything else asked again next time."""
        answers: dict[str, dict[str, Knowledge]] = {poll.server.name: {} for poll in self.polls}

        async def ask(server: StorageServer, tree_hash: str) -> None:
            knows = self._knows.get((server.name, tree_hash))
            if knows is None:
                has = await server.has(Resource(Kind.REGISTRY, tree_hash, uuid).path)
                knows = Knowledge.UNKNOWN if has is None else Knowledge.YES if has else Knowledge.NO
                if knows is Knowledge.YES:
                    self._knows[server.name, tree_hash] = knows
            answers[server.name][tree_hash] = knows

        async with trio.open_nursery() as nursery:
            for poll in self.polls:
                for tree_hash in hashes:
                    nursery.start_soon(ask, poll.server, tree_hash)
        return answers


class Registries:
    """All flavors that this server offers, and their files in `static/`."""

    def __init__(
        self,
        folder: Path,
        disk: Disk,
        servers: Sequence[StorageServer],
        hold: Callable[[Resource], Awaitable[None]],
        choices: tuple[RegistryChoice, ...] | AllRegistries,
        *,
        flavorless: bool,
        period_seconds: float,
    ) -> None:
        self._folder = folder
        self._disk = disk
        self._flavor = partial(
            Flavor,
            servers=servers,
            hold=hold,
            choices=choices,
            period_seconds=period_seconds,
            publish=self._write,
        )
        names = ("",) if flavorless else FLAVORS
        self.flavors = {name: self._flavor(name, listing=self._read(listing_name(name))) for name in names}

    async def run(self) -> None:
        """Keep every flavor up to date, each on its own."""
        async with trio.open_nursery() as nursery:
            for flavor in self.flavors.values():
                nursery.start_soon(flavor.run, name=f"registries {flavor.name}")

    def _read(self, name: str) -> bytes | None:
        try:
            listing = (self._folder / name).read_bytes()
        except OSError:
            return None
        return listing if parse_listing(listing).heads else None

    async def _write(self, name: str, listing: bytes) -> None:
        await trio.to_thread.run_sync(self._replace, self._folder / name, listing)

    def _replace(self, path: Path, listing: bytes) -> None:
        fresh = path.with_name(f".{path.name}.new")
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        fd = self._disk.create(fresh)
        try:
            self._disk.write(fd, listing, 0)
            self._disk.fsync(fd)
        finally:
            self._disk.close(fd)
        self._disk.rename(fresh, path)
        self._disk.fsync_folder(path.parent)

"""The mirror: the only door to objects of buckets for `web/`.

An object can change; a version of it cannot, and is a resource like any other: the library obtains it. What is new here
is to know which version an object is (`versions`), and to pass through what is not to be kept (docs/protocol.md).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pkgserver_trio.downloads.downloads import Order
from pkgserver_trio.errors import NotFoundError, PeerOverBoundError, QueueFullError, UpstreamError, UpstreamFailedError
from pkgserver_trio.mirror.digesting import DigestProof
from pkgserver_trio.mirror.object_origin import ObjectCopy
from pkgserver_trio.mirror.passage import Passage
from pkgserver_trio.mirror.versions import Version, Word
from pkgserver_trio.storage.open_file import StoredFile

if TYPE_CHECKING:
    from collections.abc import Mapping

    import trio

    from pkgserver_trio.downloads.flight import FlightReader
    from pkgserver_trio.library import Library
    from pkgserver_trio.mirror.object_head import ObjectHead
    from pkgserver_trio.mirror.object_path import ObjectName
    from pkgserver_trio.mirror.versions import Versions
    from pkgserver_trio.resource import Resource
    from pkgserver_trio.storage.hashing import Threads

#: How often an object that is overwritten while it is fetched is begun with anew.
_ATTEMPTS = 4
#: In all and for one peer: each has a task, and who reads slowly keeps it.
_MAX_PASSAGES = 256
_MAX_PASSAGES_EACH = _MAX_PASSAGES // 4


@dataclass(frozen=True, slots=True)
class Served:
    """An object that can be read; whoever got it closes its source. A passage has its own head (None)."""

    head: ObjectHead | None
    source: StoredFile | FlightReader | Passage
    word: Word


class Mirror:
    """Objects of buckets, of the `versions` that they have; `library` has their bytes, `threads` digest them."""

    def __init__(self, nursery: trio.Nursery, library: Library, versions: Versions, threads: Threads) -> None:
        self.library = library
        self.versions = versions
        self.origins = versions.origins
        self._nursery, self._threads = nursery, threads
        self._passages: Counter[str] = Counter()

    def drain(self) -> None:
        """Begin nothing any more; what runs goes on."""
        self.versions.admission.close()
        self.library.downloads.drain()

    async def obtain(self, name: ObjectName, asked: Mapping[str, str], *, peer: str) -> Served:
        """Return the object for `peer`, who may have `asked` for a part of it (Range, If-Range).

        A part of what is not held is passed through, and so is what may not be kept. Raises ResourceUnavailableError.
        """
        if asked and self.versions.records.get(name) is None:
            return await self._pass(name, asked, peer)
        for _ in range(_ATTEMPTS):
            version = await self.versions.choose(name, peer)
            resource = version.record.head.resource(name)
            if not version.record.is_kept or (asked and not is_at_hand(self.library, resource)):
                return await self._pass(name, asked, peer)
            order = self._order(name, version.record.head)
            try:
                source = await self.library.obtain(resource, peer=peer, order=order)
            except (NotFoundError, UpstreamFailedError) as error:
                if self.versions.records.get(name) is not version.record:
                    continue  # it is another one by now, or gone: the origin is asked what it is
                # The origin has told of the object, so that this version is not found is no word on that.
                raise UpstreamFailedError(str(error)) from error
            return Served(version.record.head, source, _word(version.word, source))
        raise UpstreamFailedError(f"{name.path} is overwritten faster than it can be fetched")

    def fresh_head(self, name: ObjectName) -> ObjectHead | None:
        """Return the head of the object, if it need not be asked about."""
        record = self.versions.fresh(name)
        return None if record is None else record.head

    def note_lost(self, name: ObjectName, reader: FlightReader) -> None:
        """Raise ResourceUnavailableError where asking again is of no use: the object still is what it was."""
        record = self.versions.records.get(name)
        if record is not None and record.head.resource(name) == reader.flight.resource and record.is_sure:
            reader.flight.raise_if_failed()

    async def sight(self, name: ObjectName, *, peer: str) -> Version:
        """Return which version the object is, fetching nothing. Raises ResourceUnavailableError."""
        return await self.versions.choose(name, peer)

    async def _pass(self, name: ObjectName, asked: Mapping[str, str], peer: str) -> Served:
        self.versions.raise_if_refused(name)
        self.versions.admission.raise_if_closed()
        if self._passages.total() >= _MAX_PASSAGES:
            raise QueueFullError(f"{_MAX_PASSAGES} objects are passed through already")
        if self._passages[peer] >= _MAX_PASSAGES_EACH:
            raise PeerOverBoundError(f"{_MAX_PASSAGES_EACH} objects are passed through for one client already")
        origin = self.origins[name.bucket]
        passage = Passage(origin.open_passage(name.key, asked), origin.tally)
        self._passages[peer] += 1
        self._nursery.start_soon(self._carry, passage, peer, name=f"passage {name.path}")
        try:
            await passage.wait_begun()
        except UpstreamError as failure:
            raise await self.versions.refuse(name, origin, failure) from failure
        except BaseException:
            passage.close()
            raise
        return Served(None, passage, Word.BYPASS)

    async def _carry(self, passage: Passage, peer: str) -> None:
        try:
            await passage.run()
        finally:
            self._passages -= Counter([peer])  # which leaves out whoever has none any more

    def _order(self, name: ObjectName, head: ObjectHead) -> Order:
        doubt = partial(self.versions.doubt, name, head.resource(name))
        copy = ObjectCopy(self.origins[name.bucket], name.key, head, doubt)
        return Order((copy,), partial(DigestProof, self._threads, head.digest), name.path[1:])


def is_at_hand(library: Library, resource: Resource) -> bool:
    """Tell whether the library has a resource, or is getting it."""
    return resource in library.downloads.flights or library.store.index.trusts(resource.pack())


def _word(chosen: Word, source: StoredFile | FlightReader) -> Word:
    """Return the word for the version `chosen` so, now that it is known whether its bytes are held."""
    if isinstance(source, StoredFile):
        return Word.HIT if chosen is Word.MISS else chosen
    return Word.EXPIRED if chosen is Word.EXPIRED else Word.MISS

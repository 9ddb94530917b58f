"""Which version an object of a bucket is: remembered while it is fresh, else asked of its origin, once for all."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

import structlog
import trio

from pkgserver_trio.coalesce import Coalescer, Errand
from pkgserver_trio.errors import (
    AbsentError,
    DeniedError,
    ForbiddenError,
    NotFoundError,
    ResourceUnavailableError,
    ShuttingDownError,
    UpstreamError,
    UpstreamFailedError,
    UpstreamSilentError,
    verdict,
)
from pkgserver_trio.mirror.freshness import freshness_of
from pkgserver_trio.mirror.object_records import ObjectRecord
from pkgserver_trio.refusals import Refusals
from pkgserver_trio.settings.buckets import is_pointer
from pkgserver_trio.upstream.admission import TURN_SECONDS, Admission, Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pkgserver_trio.mirror.object_origin import ObjectOrigin
    from pkgserver_trio.mirror.object_path import ObjectName
    from pkgserver_trio.mirror.object_records import ObjectRecords
    from pkgserver_trio.resource import Resource

#: How long an origin that failed is not asked about the same object again.
_PAUSE_SECONDS = 0.5
_MAX_PROBES = 64


class Word(StrEnum):
    """How an answer came about: nginx's words, for `X-Cache`."""

    HIT = "HIT"
    MISS = "MISS"
    EXPIRED = "EXPIRED"
    """What was held is another version than the one that there is now."""
    REVALIDATED = "REVALIDATED"
    STALE = "STALE"
    UPDATING = "UPDATING"
    BYPASS = "BYPASS"


@dataclass(frozen=True, slots=True)
class MirrorPolicy:
    """What the operator chose: times in seconds, and patterns of keys."""

    pointers: tuple[str, ...]
    stale_while_revalidate_seconds: float
    stale_if_error_seconds: float
    negative_seconds: float


@dataclass(frozen=True, slots=True)
class Version:
    """The version to answer with, and how it was chosen."""

    record: ObjectRecord
    word: Word


class Versions:
    """What is known of objects of the buckets that `origins` are of; `is_held` tells whether a version's bytes are."""

    def __init__(
        self,
        nursery: trio.Nursery,
        origins: Sequence[ObjectOrigin],
        records: ObjectRecords,
        policy: MirrorPolicy,
        is_held: Callable[[Resource], bool],
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.origins = {origin.bucket.name: origin for origin in origins}
        self.records = records
        self.admission = Admission()
        self._policy, self._is_held, self._now = policy, is_held, now
        self._probes: Coalescer[ObjectName, Errand[ObjectRecord]] = Coalescer(nursery)
        self._refusals: Refusals[ObjectName, ResourceUnavailableError] = Refusals()
        self._turns = Turns(_MAX_PROBES, _MAX_PROBES // 4)

    def fresh(self, name: ObjectName) -> ObjectRecord | None:
        """Return what is known of an object that need not be asked about."""
        record = self.records.get(name)
        return record if record is not None and record.age(self._now()) < 0 else None

    def doubt(self, name: ObjectName, resource: Resource) -> None:
        """Have the next who asks ask the origin, if nobody has learnt better than that it is `resource`."""
        record = self.records.get(name)
        if record is not None and record.head.resource(name) == resource:
            self.records.enter(name, record.expired())

    def raise_if_refused(self, name: ObjectName) -> None:
        """Raise the ResourceUnavailableError that asking ended with a moment ago."""
        refusal = self._refusals.recall(name, trio.current_time())
        if refusal is not None:
            raise refusal.with_traceback(None)  # each who hears of it would add its own frames

    async def choose(self, name: ObjectName, peer: str) -> Version:
        """Return the version that may be answered with now, asking the origin for `peer` where need be.

        Raises ResourceUnavailableError.
        """
        record = self.records.get(name)
        if record is None:
            return Version(await self._probe(name, peer), Word.MISS)
        age = record.age(self._now())
        if age < 0:
            return Version(record, Word.HIT)
        held = self._is_held(record.head.resource(name))
        if held and record.freshness.may_lag and age < self._policy.stale_while_revalidate_seconds:
            return Version(record, self._revalidate(name))
        outlives = held and record.freshness.may_outlive and age < self._policy.stale_if_error_seconds
        if outlives and self.origins[name.bucket].backoff.is_resting(trio.current_time()):
            return Version(record, Word.STALE)
        try:
            found = await self._probe(name, peer)
        except (UpstreamFailedError, UpstreamSilentError):
            if outlives:
                return Version(record, Word.STALE)
            raise
        same = found.head.is_same_version(record.head)
        return Version(found, Word.REVALIDATED if same else Word.EXPIRED if held else Word.MISS)

    def _revalidate(self, name: ObjectName) -> Word:
        """Have the origin asked beside the answer; one that has just failed is not."""
        running = name in self._probes
        if not running and self._refusals.recall(name, trio.current_time()) is None:
            try:
                self._begin_probe(name, "")
            except ShuttingDownError:
                return Word.STALE
        return Word.UPDATING if running else Word.STALE

    async def _probe(self, name: ObjectName, peer: str) -> ObjectRecord:
        """Return the object as it is now, asked once for all who want to know. Raises ResourceUnavailableError."""
        self.raise_if_refused(name)
        return await self._begin_probe(name, peer).wait()

    def _begin_probe(self, name: ObjectName, peer: str) -> Errand[ObjectRecord]:
        def launch() -> Errand[ObjectRecord]:
            self.admission.enter(peer)
            return Errand(partial(self._ask, name, peer), name.path)

        return self._probes.join(name, launch)

    async def _ask(self, name: ObjectName, peer: str) -> ObjectRecord:
        origin = self.origins[name.bucket]
        try:
            async with self._turns.take(peer, trio.current_time() + TURN_SECONDS):
                record = await self._look(name, origin)
        except UpstreamError as failure:
            raise await self.refuse(name, origin, failure) from failure
        finally:
            self.admission.leave(peer)
        origin.backoff.succeed()
        return record

    async def _look(self, name: ObjectName, origin: ObjectOrigin) -> ObjectRecord:
        known, asked = self.records.get(name), self._now()  # what is fresh is so from before it was asked for
        if known is not None and not known.is_sure:
            known = None  # an origin that says the same tag of another body would confirm it for ever
        look = await origin.look(name.key, None if known is None else known.head)
        head = look.head or known.head.renewed(look.headers)  # type: ignore[union-attr] # who was asked so is known
        said = look.headers if look.head else {**head.told, **look.headers}
        ttl = origin.bucket.ttl_seconds
        freshness = freshness_of(said, ttl_seconds=ttl, pointer=is_pointer(name.key, self._policy.pointers))
        record = ObjectRecord(head, freshness, asked)
        await self._remember(name, record if record.is_kept else None)
        return record

    async def _remember(self, name: ObjectName, record: ObjectRecord | None) -> None:
        gone: list[ObjectName] = []
        if record is None:
            self.records.drop(name)
        else:
            gone = self.records.enter(name, record)
        await trio.to_thread.run_sync(self.records.save, name, record, gone)

    async def refuse(self, name: ObjectName, origin: ObjectOrigin, failure: UpstreamError) -> ResourceUnavailableError:
        """Remember for a moment what the origin said, and return what becomes of the object."""
        origin.tally.fail(failure)
        log = structlog.get_logger()
        tell = log.info if type(failure) is AbsentError else log.warning  # a refusal may be for the operator to mend
        tell("object not to be had", resource=name.path[1:], origin=origin.name, reason=str(failure))
        seconds = _PAUSE_SECONDS
        if isinstance(failure, AbsentError):
            seconds = self._policy.negative_seconds
            await self._remember(name, None)
        else:
            origin.backoff.fail(trio.current_time())
        error = _unavailable(name, failure)
        self._refusals.add(name, error, trio.current_time() + seconds)
        return type(error)(str(error))  # the remembered one holds on to nothing that it came from


def _unavailable(name: ObjectName, failure: UpstreamError) -> ResourceUnavailableError:
    if isinstance(failure, DeniedError):
        return ForbiddenError(f"{name.path} is not to be had: {failure}")
    if isinstance(failure, AbsentError):
        return NotFoundError(f"{name.path} was not found: {failure}")
    return type(verdict(name.path, [failure]))(f"the origin could not deliver {name.path}: {failure}")

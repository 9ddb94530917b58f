"""`/meta` and what is below it: what existing monitors of PkgServer.jl read, all of it from memory."""

from __future__ import annotations

import resource
import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import trio

from pkgserver_trio import __version__
from pkgserver_trio.credentials import masked
from pkgserver_trio.printable import printable
from pkgserver_trio.resource import Kind, Resource
from pkgserver_trio.statistics import Outcome
from pkgserver_trio.web import answers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from quart_trio.wrappers import TrioResponse

    from pkgserver_trio.library import Library
    from pkgserver_trio.registries.registries import Registries
    from pkgserver_trio.web.request import Request

#: Monitors want the version of a Julia that can be a package server.
_JULIA_VERSION: Final = "1.12.0"
#: How many resources `/meta/stats` lists when the query does not say.
_LISTED: Final = 1000
_MAX_DIGITS: Final = 9


class MetaPages:
    """What the server says of itself."""

    def __init__(self, library: Library, registries: Registries, *, public_url: str, siblings: Sequence[str]) -> None:
        self._library = library
        self._registries = registries
        self._public_url = public_url
        self._started_seconds = time.time()
        parents = list(dict.fromkeys(server.name for server in library.downloads.servers))
        self._pages: dict[str, Callable[[Request], TrioResponse]] = {
            "/meta": lambda _: answers.json_text(self._describe()),
            "/meta/stats": self._stats,
            "/meta/siblings": lambda _: answers.json_text([masked(url) for url in siblings]),
            "/meta/children": lambda _: answers.json_text([]),
            "/meta/parents": lambda _: answers.json_text(parents),
        }

    def find(self, path: str) -> Callable[[Request], TrioResponse] | None:
        """Return what answers at the raw `path`, if anything does."""
        return self._pages.get(path)

    def _describe(self) -> dict[str, Any]:
        polls = [poll for flavor in self._registries.flavors.values() for poll in flavor.polls]
        updated = max((poll.succeeded_seconds or 0 for poll in polls), default=0)
        return {
            "pkgserver_version": __version__,
            "pkgserver_url": self._public_url,
            "julia_version": _JULIA_VERSION,
            "start_time": _as_time(self._started_seconds),
            "last_registry_update": _as_time(updated or self._started_seconds),
            # Neither can end before the server does: in one tree of tasks, the failure of one ends all.
            "registry_update_task": "started",
            "registry_watchdog_task": "started",
            "maxrss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "live_tasks": str(trio.lowlevel.current_statistics().tasks_living),
        }

    def _stats(self, request: Request) -> TrioResponse:
        text = request.args.get("limit", str(_LISTED))
        if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
            told = printable(f"limit is not a whole number of at most {_MAX_DIGITS} digits: {text}")
            return answers.text(f"{told}\n", HTTPStatus.BAD_REQUEST)
        return answers.json_text({"lru": self._list(int(text)), **self._count()})

    def _list(self, limit: int) -> dict[str, dict[str, float]]:
        return {
            Resource.unpack(use.key).name: {
                "size": size,
                "last_accessed": use.used_ns / 1e9,
                "num_accessed": use.served,
            }
            for use, size in self._library.store.index.newest(limit)
        }

    def _count(self) -> dict[str, int]:
        index, statistics = self._library.store.index, self._library.statistics
        cached, fetched = statistics.total(Outcome.HIT), statistics.total(Outcome.MISS, Outcome.COALESCED)
        tallies = {server.name: server.tally for server in self._library.downloads.servers}
        return {
            "packages_cached": index.held(Kind.PACKAGE)[0],
            "artifacts_cached": index.held(Kind.ARTIFACT)[0],
            "total_hits": cached + fetched,
            "cached_hits": cached,
            "fetch_hits": fetched,
            "total_misses": statistics.total(Outcome.ABSENT, Outcome.FAILED),
            "payload_bytes_received": sum(tally.received_bytes for tally in tallies.values()),
            "payload_bytes_transmitted": statistics.transmitted_bytes + statistics.nginx_transmitted_bytes,
        }


def _as_time(seconds: float) -> str:
    """Write Unix seconds as UTC without a zone, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")

"""What the next start of a store needs to know, read from `cache/` and written there. Blocking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkgserver_trio.resource import Resource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pkgserver_trio.cache_files import CacheFiles
    from pkgserver_trio.index import Surveyed
    from pkgserver_trio.verified import Verified


def survey(files: CacheFiles, verified: Verified) -> tuple[list[Surveyed], set[int]]:
    """Return all resources in `cache/`, oldest use first, and which of them are suspects. Raises OSError."""
    suspects: set[int] = set()
    surveyed: list[Surveyed] = []
    for found in files.list():
        if found.resource is None:
            continue  # an operator's or another program's file: left alone
        key = found.resource.pack()
        surveyed.append((found.stat.atime_ns, key, found.stat.size_bytes, found.stat.mtime_ns))
        if not verified.knows(found.name, found.stat):
            suspects.add(key)
    surveyed.sort()
    return surveyed, suspects


def save_access_times(files: CacheFiles, used_ns: Mapping[int, int]) -> None:
    """Give files the access times in `used_ns`, by packed resource, in nanoseconds since the epoch."""
    for key, atime_ns in used_ns.items():
        try:
            files.disk.set_atime(files.path(Resource.unpack(key)), atime_ns)
        except OSError:  # evicted meanwhile, or another user's file: only its age is lost
            continue

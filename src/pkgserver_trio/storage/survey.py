"""What the next start of a store needs to know, read from `cache/` and written there. Blocking."""

from __future__ import annotations

import time
from array import array
from itertools import islice
from typing import TYPE_CHECKING, Final

from pkgserver_trio.resource import Resource
from pkgserver_trio.storage.index import Index

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pkgserver_trio.storage.cache_files import CacheFiles
    from pkgserver_trio.storage.verified import Verified

#: For how many files the memory of what is verified is asked at once.
_BATCH: Final = 250
#: How long the survey sleeps after so many. A thread that leaves the interpreter for each file takes it back at once:
#: on a busy machine the event loop, woken each time, was up to 0.2 s too late again and again (measured).
_BREATH_SECONDS: Final = 0.0005
#: The latest time that is told apart from later ones: what an `array` takes.
_LAST_NS: Final = 2**63 - 1


def survey(files: CacheFiles, verified: Verified) -> Index:
    """Return an index of all resources in `cache/`, in order of their last use. Raises OSError."""
    index, used_ns = Index(), array("q")
    # An operator's or another program's file is left alone: it has no resource.
    listed = ((found, found.resource) for found in files.list() if found.resource is not None)
    while batch := list(islice(listed, _BATCH)):
        known = verified.known({found.name: found.stat for found, _ in batch})
        for found, resource in batch:
            if index.enter(resource.pack(), found.stat, suspect=found.name not in known):
                used_ns.append(min(found.stat.atime_ns, _LAST_NS))
        time.sleep(_BREATH_SECONDS)
    index.sort(used_ns)
    return index


def save_access_times(files: CacheFiles, used_ns: Mapping[int, int]) -> None:
    """Give files the access times in `used_ns`, by packed resource, in nanoseconds since the epoch."""
    for key, atime_ns in used_ns.items():
        try:
            files.disk.set_atime(files.path(Resource.unpack(key)), atime_ns)
        except OSError:  # evicted meanwhile, or another user's file: only its age is lost
            continue

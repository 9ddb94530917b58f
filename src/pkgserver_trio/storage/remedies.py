"""What is done with a file of the cache and with what is remembered of it. Blocking, as both of them are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pkgserver_trio.resource import Resource
    from pkgserver_trio.storage.cache_files import CacheFiles
    from pkgserver_trio.storage.disk import FileStat
    from pkgserver_trio.storage.verified import Verified


class Remedies:
    """For files that were checked as they were at `stat`: each does nothing when another one has come in its place."""

    def __init__(self, files: CacheFiles, verified: Verified) -> None:
        self._files = files
        self._verified = verified

    def admit(self, resource: Resource, stat: FileStat) -> bool:
        """Remember a file that was found right; False when it is not there any more. Raises OSError."""
        held = self._files.holds(resource, stat)
        if held:
            self._verified.add(resource.name, stat)
        return held

    def quarantine(self, resource: Resource, stat: FileStat) -> bool:
        """Move a file that was found wrong to where an operator can look at it; False when it is not there any more.

        Raises OSError.
        """
        if not self._files.holds(resource, stat):
            return False
        self._verified.forget(resource.name)
        try:
            self._files.quarantine(resource)
        except FileNotFoundError:  # somebody else was quicker
            return False
        return True

    def remove(self, resource: Resource) -> bool:
        """Remove whatever file the resource has, durably; False when there is none. Raises OSError."""
        removed = self._files.remove(resource)
        self._verified.forget(resource.name)
        return removed

"""What the next start of a store needs to know, read from `cache/` and written there. Blocking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkgserver_trio.resource import Kind, Resource

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pkgserver_trio.disk import Disk
    from pkgserver_trio.index import Finding
    from pkgserver_trio.verified import Verified


def survey(disk: Disk, root: Path, verified: Verified) -> tuple[list[Finding], set[int]]:
    """Return all resources in `cache/`, oldest use first, and which of them are suspects. Raises OSError."""
    suspects: set[int] = set()
    found: list[Finding] = []
    for kind in Kind:
        for name, stat in disk.files(root / "cache" / kind):
            resource = Resource.parse(f"/{kind}/{name}")
            if resource is None:
                continue  # an operator's or another program's file: left alone
            key = resource.pack()
            found.append((stat.atime_ns, key, stat.size_bytes, stat.mtime_ns))
            if not verified.knows(resource.name, stat):
                suspects.add(key)
    found.sort()
    return found, suspects


def save_access_times(disk: Disk, root: Path, used_ns: Mapping[int, int]) -> None:
    """Give files the access times in `used_ns`, by packed resource, in nanoseconds since the epoch."""
    for key, atime_ns in used_ns.items():
        try:
            disk.set_atime(root / "cache" / Resource.unpack(key).name, atime_ns)
        except OSError:  # evicted meanwhile, or another user's file: only its age is lost
            continue

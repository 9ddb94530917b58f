"""What a library counts as hits that nginx served, kept for a test to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.web.site import Site

    from pkgserver_trio.hits.lines import Hit
    from pkgserver_trio.resource import Resource


class Counted(list[tuple[str, int]]):
    """The hits that were counted: path and bytes."""

    def note(self, resource: Resource, size_bytes: int) -> None:
        self.append((resource.path, size_bytes))

    def on_hits(self, hits: Sequence[Hit]) -> None:
        for hit in hits:
            self.note(hit.resource, hit.size_bytes)


def counting(site: Site) -> Counted:
    """Return a list of all hits that the site counts as nginx's from now on."""
    counted = Counted()
    site.library._count_nginx_hit = counted.note
    return counted

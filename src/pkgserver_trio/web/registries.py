"""`/registries` and its flavors."""

from __future__ import annotations

import hashlib
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from pkgserver_trio.registry_list import chosen_flavor, listing_name
from pkgserver_trio.validators import is_not_modified
from pkgserver_trio.web import answers

if TYPE_CHECKING:
    from collections.abc import Callable

    from quart_trio.wrappers import TrioResponse

    from pkgserver_trio.registries.flavor import Flavor
    from pkgserver_trio.registries.registries import Registries
    from pkgserver_trio.web.request import Request


class RegistryPages:
    """The lists of registry heads; each client is sent to the flavor that suits it."""

    def __init__(self, registries: Registries) -> None:
        self._registries = registries

    def find(self, path: str) -> Callable[[Request], TrioResponse] | None:
        """Return what answers at the raw `path`, if anything does."""
        if path == "/registries" and "" not in self._registries.flavors:
            return self._redirect
        for flavor in self._registries.flavors.values():
            if path == f"/{listing_name(flavor.name)}":
                return partial(self._listing, flavor)
        return None

    def _redirect(self, request: Request) -> TrioResponse:
        flavors = self._registries.flavors
        flavor = chosen_flavor(
            request.headers.get("Julia-Registry-Preference"), request.headers.get("Julia-CI-Variables"), flavors
        )
        if flavors[flavor].listing is None:
            return _not_yet()  # another flavor may be newer: the client would move backwards with its own one later
        headers = {
            "Location": f"/{listing_name(flavor)}",
            "Cache-Control": "no-cache",
            "Vary": "Julia-Registry-Preference, Julia-CI-Variables",
        }
        return answers.text("", HTTPStatus.FOUND, headers)

    def _listing(self, flavor: Flavor, request: Request) -> TrioResponse:
        if flavor.listing is None:
            return _not_yet()
        etag = f'"{hashlib.sha256(flavor.listing).hexdigest()}"'
        headers = {"ETag": etag, "Cache-Control": "no-cache"}
        asked = request.headers.get("If-None-Match")
        if is_not_modified(etag=etag, mtime_seconds=0, if_none_match=asked, if_modified_since=None):
            return answers.bodiless(HTTPStatus.NOT_MODIFIED, headers)
        return answers.text(flavor.listing.decode("ascii"), headers=headers)


def _not_yet() -> TrioResponse:
    return answers.try_later("no registry is known yet", HTTPStatus.SERVICE_UNAVAILABLE)

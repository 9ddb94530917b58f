"""`/notify`: how existing nginx configurations tell of a hit that nginx served, by a mirrored request for each."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from pkgserver_trio.resource import Resource
from pkgserver_trio.web import answers
from pkgserver_trio.web.peers import is_trusted

if TYPE_CHECKING:
    from collections.abc import Collection

    from quart_trio.wrappers import TrioResponse

    from pkgserver_trio.library import Library
    from pkgserver_trio.settings.grammar import Network
    from pkgserver_trio.web.request import Request

PATH = "/notify"


def notify(library: Library, trusted: Collection[Network], request: Request) -> TrioResponse:
    """Take one more hit of the resource in `X-Original-URI`, from a peer that is trusted by its own address.

    A mirror tells of misses too, and of paths that are nothing: only what is in the cache counts.
    """
    told = request.headers.getlist("X-Original-URI")
    resource = Resource.parse(told[0].partition("?")[0]) if len(told) == 1 else None
    peer = (request.scope["client"] or [None])[0]
    if resource is None or not is_trusted(peer, trusted) or not library.note_whole_hit(resource):
        return answers.not_found()
    return answers.bodiless(HTTPStatus.NO_CONTENT, {})

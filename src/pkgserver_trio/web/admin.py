"""`/admin`: what operators do over HTTP. Nothing below it, not even what is there, is told to others."""

from __future__ import annotations

import math
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
import trio

from pkgserver_trio.errors import ResourceUnavailableError
from pkgserver_trio.mirror.object_path import ObjectName, split_object_path
from pkgserver_trio.printable import printable
from pkgserver_trio.resource import Resource
from pkgserver_trio.web import answers
from pkgserver_trio.web.admin_access import Failures, is_admin, is_from_another_site
from pkgserver_trio.web.admin_logs import get_logs
from pkgserver_trio.web.routes import Route, at_once, readable

if TYPE_CHECKING:
    from quart_trio.wrappers import TrioResponse

    from pkgserver_trio.downloads.flight import Flight
    from pkgserver_trio.library import Library
    from pkgserver_trio.logs.hub import LogHub
    from pkgserver_trio.mirror.mirror import Mirror
    from pkgserver_trio.verifying import Verifying
    from pkgserver_trio.web.request import Request
    from pkgserver_trio.web.routes import Answer

_CACHE = "/admin/cache"
_READING = frozenset({"GET", "HEAD"})
_WELCOME = """Welcome to the /admin endpoint of the package server.

GET    /admin                        this text
GET    /admin/logs                   the log, live; ?level=debug (info, warning, error), ?color=false
GET    /admin/flights                the downloads that run, as JSON
DELETE /admin/cache/<resource path>  remove a resource from the cache, for example /admin/cache/artifact/<hash>
POST   /admin/cache/verify           begin to verify the whole cache; what is wrong goes to quarantine
GET    /admin/cache/verify           how far that is, or how the last one ended, as JSON
"""
_DISABLED = "the /admin endpoint is disabled: no admin token is configured (JULIA_PKG_SERVER_ADMIN_TOKEN_SHA256)\n"
_DENIED = "this needs HTTP Basic authentication, as the user admin\n"
_FOREIGN = "a page of another site may not change anything here\n"
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="admin"'}


class Admin:
    """Everything below `/admin`; all of it is disabled where `token_sha256` is None."""

    def __init__(
        self,
        library: Library,
        hub: LogHub,
        verifying: Verifying,
        token_sha256: str | None,
        mirror: Mirror | None = None,
    ) -> None:
        self._library = library
        self._mirror = mirror
        self._verifying = verifying
        self._token_sha256 = token_sha256
        self._failures = Failures()
        self._log = structlog.get_logger()
        report = at_once(lambda _: answers.json_text(verifying.report()))
        self._routes = {
            "/admin": readable(at_once(lambda _: answers.text(_WELCOME))),
            "/admin/logs": Route({"GET": partial(get_logs, hub)}),
            "/admin/flights": readable(at_once(self._get_flights)),
            f"{_CACHE}/verify": Route({"GET": report, "HEAD": report, "POST": at_once(self._post_verify)}),
        }

    def find(self, path: str) -> Answer | None:
        """Return what answers at the raw `path`, if it is one of these."""
        if path != "/admin" and not path.startswith("/admin/"):
            return None
        return partial(self._answer, path)

    async def _answer(self, path: str, request: Request) -> TrioResponse:
        answer = self._refusal(path, request)
        if answer is None:
            route = self._routes.get(path) or self._removal(path)
            answer = answers.not_found() if route is None else await route(request)
        answer.headers["Cache-Control"] = "no-store"
        return answer

    def _refusal(self, path: str, request: Request) -> TrioResponse | None:
        """Return what is said to who may not use it; asking without any credentials is how a browser begins."""
        if self._token_sha256 is None:
            return answers.text(_DISABLED, HTTPStatus.NOT_FOUND)
        authorization = request.headers.get("Authorization")
        if authorization is None:
            return answers.text(_DENIED, HTTPStatus.UNAUTHORIZED, _CHALLENGE)
        if is_admin(authorization, self._token_sha256):
            return self._foreign_refusal(path, request)
        failure = self._failures.count(request.peer, trio.current_time())
        if failure.wait_seconds:
            headers = {"Retry-After": str(math.ceil(failure.wait_seconds))}
            return answers.text("too many failed attempts\n", HTTPStatus.TOO_MANY_REQUESTS, headers)
        self._log.warning("admin access denied", peer=request.peer, path=path, unheard=failure.unheard)
        return answers.text(_DENIED, HTTPStatus.UNAUTHORIZED, _CHALLENGE)

    def _foreign_refusal(self, path: str, request: Request) -> TrioResponse | None:
        """Return what a page of another site gets, which a browser has lent its operator's credentials."""
        site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
        if request.method in _READING or not is_from_another_site(site, origin):
            return None
        self._log.warning("admin request of another site refused", peer=request.peer, path=path, origin=origin)
        return answers.text(_FOREIGN, HTTPStatus.FORBIDDEN)

    def _removal(self, path: str) -> Route | None:
        if not path.startswith(f"{_CACHE}/"):
            return None
        told = path.removeprefix(_CACHE)
        resource, named = Resource.parse(told), split_object_path(told)
        if resource is not None:
            return Route({"DELETE": partial(self._delete, self._library, resource, resource.name)})
        if self._mirror is not None and named is not None and named[0] in self._mirror.origins:
            return Route({"DELETE": partial(self._delete_object, self._mirror, ObjectName(*named))})
        return None

    async def _delete_object(self, mirror: Mirror, name: ObjectName, request: Request) -> TrioResponse:
        """Remove the version that is known, and have the origin asked which one there is."""
        resource = mirror.versions.records.resource(name)
        if resource is None:
            return answers.text(f"{printable(name.path[1:])} is not cached\n", HTTPStatus.NOT_FOUND)
        mirror.versions.doubt(name, resource)
        return await self._delete(mirror.library, resource, printable(name.path[1:]), request)

    async def _delete(self, library: Library, resource: Resource, name: str, request: Request) -> TrioResponse:
        if resource in library.downloads.flights:
            return answers.text(f"{name} is being downloaded\n", HTTPStatus.CONFLICT)
        try:
            removed = await library.store.remove(resource)
        except ResourceUnavailableError as error:
            return answers.unavailable(error)
        if not removed:
            return answers.text(f"{name} is not cached\n", HTTPStatus.NOT_FOUND)
        self._log.info("removed from the cache", resource=name, peer=request.peer)
        return answers.bodiless(HTTPStatus.NO_CONTENT, {})

    def _post_verify(self, request: Request) -> TrioResponse:
        began = self._verifying.begin()
        if began:
            self._log.info("verification asked for", peer=request.peer)
        return answers.json_text(self._verifying.report(), HTTPStatus.ACCEPTED if began else HTTPStatus.CONFLICT)

    def _get_flights(self, _request: Request) -> TrioResponse:
        flights = [*self._library.downloads.flights]
        if self._mirror is not None:
            flights += self._mirror.library.downloads.flights
        return answers.json_text([describe_flight(flight) for flight in flights])


def describe_flight(flight: Flight) -> dict[str, Any]:
    """Return what is told of a running download; before a storage server was found there is none."""
    state = flight.progress.state
    return {
        "resource": flight.label,
        "size_bytes": state.size_bytes,
        "written_bytes": state.written_bytes,
        "hashed_bytes": state.hashed_bytes,
        "storage_server": flight.server and printable(flight.server),
        "seconds": round(trio.current_time() - flight.begun, 3),
        "readers": flight.readers,
    }

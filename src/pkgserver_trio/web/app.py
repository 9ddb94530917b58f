"""The application: which path is answered by whom. Paths are matched raw and whole (docs/protocol.md, "Answers")."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, cast

import structlog
from quart_trio import QuartTrio

from pkgserver_trio.resource import Resource, parse_artifact_toml_path
from pkgserver_trio.web import answers
from pkgserver_trio.web.artifact_toml import get_artifact_toml
from pkgserver_trio.web.connection import Connection, Request
from pkgserver_trio.web.pages import Pages
from pkgserver_trio.web.peers import peer_of
from pkgserver_trio.web.registries import RegistryPages
from pkgserver_trio.web.resources import get_resource, head_resource

if TYPE_CHECKING:
    from collections.abc import Collection

    from quart.ctx import RequestContext
    from quart_trio.wrappers import TrioResponse

    from pkgserver_trio.library import Library
    from pkgserver_trio.registries import Registries
    from pkgserver_trio.settings.grammar import Network


class PackageServer(QuartTrio):
    """Quart, with its own routing replaced: that one decodes, folds and redirects paths."""

    asgi_http_class = Connection
    request_class = Request

    def __init__(
        self,
        library: Library,
        registries: Registries,
        *,
        public_url: str,
        trusted_proxies: Collection[Network] = (),
    ) -> None:
        super().__init__("pkgserver_trio", static_folder=None)
        self.config["RESPONSE_TIMEOUT"] = None  # Quart would cut a long body off, without a word
        self._library = library
        self._public_url = public_url
        self._trusted_proxies = trusted_proxies
        self._pages = Pages(registries, public_url)
        self._registries = RegistryPages(registries)

    async def dispatch_request(self, request_context: RequestContext | None = None) -> TrioResponse:
        """Answer one request."""
        assert request_context is not None  # noqa: S101 # Quart's own signature allows it, Quart-Trio always gives it
        request = cast("Request", request_context.request)
        request.peer = peer_of((request.scope["client"] or [None])[0], request.scope["headers"], self._trusted_proxies)
        request.line.peer = request.peer
        path = _origin_form(request.scope["raw_path"].decode("latin-1"))
        answer = await self._answer(path, request)
        if answer is None:
            return answers.not_found()
        return answer

    async def _answer(self, path: str, request: Request) -> TrioResponse | None:
        resource = Resource.parse(path)
        artifact = None if resource else parse_artifact_toml_path(path)
        page = None if resource or artifact else self._pages.find(path) or self._registries.find(path)
        if resource is None and artifact is None and page is None:
            return None
        if request.method not in {"GET", "HEAD"}:
            return answers.not_allowed("GET, HEAD")
        if resource is not None:
            answer = head_resource if request.method == "HEAD" else get_resource
            return await answer(self._library, resource, request)
        if artifact is not None:
            return await get_artifact_toml(self._library, *artifact, public_url=self._public_url, peer=request.peer)
        return page(request) if page else None

    async def handle_exception(self, error: Exception) -> TrioResponse:
        """Answer what is a defect of ours: told to the log whole, to the client not at all."""
        structlog.get_logger().error("defect", exc_info=error)
        return answers.text("internal error\n", HTTPStatus.INTERNAL_SERVER_ERROR)


def _origin_form(target: str) -> str:
    """Return the path of a request target; servers have to take the absolute form too (RFC 9112, 3.2.2)."""
    for scheme in ("http://", "https://"):
        if target.startswith(scheme):
            return "/" + target.removeprefix(scheme).partition("/")[2]
    return target

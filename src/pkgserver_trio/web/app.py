"""The application: which path is answered by whom. Paths are matched raw and whole (docs/protocol.md, "Routes")."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

import structlog
from quart_trio import QuartTrio

from pkgserver_trio.resource import Resource, parse_artifact_toml_path
from pkgserver_trio.web import answers, notify
from pkgserver_trio.web.artifact_toml import get_artifact_toml
from pkgserver_trio.web.connection import Connection
from pkgserver_trio.web.meta import MetaPages
from pkgserver_trio.web.metrics import Metrics
from pkgserver_trio.web.mirror import MirrorPages
from pkgserver_trio.web.pages import Pages
from pkgserver_trio.web.peers import peer_of
from pkgserver_trio.web.registries import RegistryPages
from pkgserver_trio.web.request import Request
from pkgserver_trio.web.resources import get_resource, head_resource
from pkgserver_trio.web.routes import Route, at_once, readable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from quart.ctx import RequestContext
    from quart_trio.wrappers import TrioResponse

    from pkgserver_trio.library import Library
    from pkgserver_trio.mirror.mirror import Mirror
    from pkgserver_trio.registries.registries import Registries
    from pkgserver_trio.settings.grammar import Network
    from pkgserver_trio.web.admin import Admin
    from pkgserver_trio.web.routes import Answer


class PackageServer(QuartTrio):
    """Quart, with its own routing replaced: that one decodes, folds and redirects paths."""

    asgi_http_class = Connection
    request_class = Request

    def __init__(
        self,
        library: Library,
        registries: Registries,
        admin: Admin,
        *,
        public_url: str,
        trusted_proxies: Collection[Network] = (),
        siblings: Sequence[str] = (),
        mirror: Mirror | None = None,
    ) -> None:
        super().__init__("pkgserver_trio", static_folder=None)
        self.config["RESPONSE_TIMEOUT"] = None  # Quart would cut a long body off, without a word
        self._library = library
        self._public_url = public_url
        self._trusted_proxies = trusted_proxies
        self._admin = admin
        self.statistics = library.statistics
        self.metrics = Metrics(library, registries, mirror)
        self._pages = Pages(registries, self.metrics, public_url)
        self._meta = MetaPages(library, registries, public_url=public_url, siblings=siblings)
        self._registries = RegistryPages(registries)
        self._mirrored = MirrorPages(mirror, library.statistics)

    async def dispatch_request(self, request_context: RequestContext | None = None) -> TrioResponse:
        """Answer one request."""
        assert request_context is not None  # noqa: S101 # Quart's own signature allows it, Quart-Trio always gives it
        request = cast("Request", request_context.request)
        request.peer = peer_of((request.scope["client"] or [None])[0], request.scope["headers"], self._trusted_proxies)
        request.line.peer = request.peer
        path = _origin_form(request.scope["raw_path"].decode("latin-1"))
        answer = self._find(path)
        return answers.not_found() if answer is None else await answer(request)

    def _find(self, path: str) -> Answer | None:
        library = self._library
        if path == notify.PATH:
            return Route({"GET": at_once(partial(notify.notify, library, self._trusted_proxies))})
        resource = Resource.parse(path)
        if resource is not None:
            return readable(partial(get_resource, library, resource), partial(head_resource, library, resource))
        artifact = parse_artifact_toml_path(path)
        if artifact is not None:
            return readable(partial(get_artifact_toml, library, *artifact, public_url=self._public_url))
        page = self._find_page(path)
        return readable(at_once(page)) if page else self._mirrored.find(path) or self._admin.find(path)

    def _find_page(self, path: str) -> Callable[[Request], TrioResponse] | None:
        return self._pages.find(path) or self._registries.find(path) or self._meta.find(path)

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

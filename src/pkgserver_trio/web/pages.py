"""The small pages: health, readiness, metrics, robots, and a greeting for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkgserver_trio import __version__
from pkgserver_trio.web import answers
from pkgserver_trio.web.metrics import CONTENT_TYPE
from pkgserver_trio.web.readiness import readiness

if TYPE_CHECKING:
    from collections.abc import Callable

    from quart_trio.wrappers import TrioResponse

    from pkgserver_trio.registries.registries import Registries
    from pkgserver_trio.web.metrics import Metrics
    from pkgserver_trio.web.request import Request

_GREETING = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Julia package server</title></head>
<body><h1>Julia package server</h1>
<p>This is a package server for <a href="https://julialang.org">Julia</a>, pkgserver-trio {version}. To use it:</p>
<pre>export JULIA_PKG_SERVER={url}</pre>
<p><a href="/registries">Registries</a>, <a href="/readyz">readiness</a></p></body></html>
"""


class Pages:
    """What is answered without touching a resource."""

    def __init__(self, registries: Registries, metrics: Metrics, public_url: str) -> None:
        self._pages: dict[str, Callable[[Request], TrioResponse]] = {
            "/": lambda _: answers.html(_GREETING.format(version=__version__, url=public_url)),
            "/robots.txt": lambda _: answers.text("User-agent: *\nDisallow: /\n"),
            "/healthz": lambda _: answers.json_text({"status": "ok"}),
            "/readyz": lambda _: readiness(registries.flavors.values()),
            "/metrics": lambda _: answers.text(metrics.render().decode(), headers={"Content-Type": CONTENT_TYPE}),
        }

    def find(self, path: str) -> Callable[[Request], TrioResponse] | None:
        """Return what answers at the raw `path`, if anything does."""
        return self._pages.get(path)

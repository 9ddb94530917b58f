"""The small pages: health, readiness, robots, and a greeting for people."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import trio

from pkgserver_trio import __version__
from pkgserver_trio.printable import printable
from pkgserver_trio.web import answers

if TYPE_CHECKING:
    from collections.abc import Callable

    from quart_trio.wrappers import TrioResponse

    from pkgserver_trio.flavor import Flavor
    from pkgserver_trio.registries import Registries
    from pkgserver_trio.web.connection import Request

#: Without an answer from any storage server for so long, a registry counts as stale.
STALE_SECONDS = 60
_GREETING = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Julia package server</title></head>
<body><h1>Julia package server</h1>
<p>This is a package server for <a href="https://julialang.org">Julia</a>, pkgserver-trio {version}. To use it:</p>
<pre>export JULIA_PKG_SERVER={url}</pre>
<p><a href="/registries">Registries</a>, <a href="/readyz">readiness</a></p></body></html>
"""


class Pages:
    """What is answered without touching a resource."""

    def __init__(self, registries: Registries, public_url: str) -> None:
        self._registries = registries
        self._pages: dict[str, Callable[[Request], TrioResponse]] = {
            "/": lambda _: answers.html(_GREETING.format(version=__version__, url=public_url)),
            "/robots.txt": lambda _: answers.text("User-agent: *\nDisallow: /\n"),
            "/healthz": lambda _: answers.json_text({"status": "ok"}),
            "/readyz": lambda _: self._readiness(),
        }

    def find(self, path: str) -> Callable[[Request], TrioResponse] | None:
        """Return what answers at the raw `path`, if anything does."""
        return self._pages.get(path)

    def _readiness(self) -> TrioResponse:
        flavors = self._registries.flavors.values()
        if all(flavor.listing is None for flavor in flavors):
            status = "unavailable"
        elif any(flavor.listing is None or _is_troubled(flavor) for flavor in flavors):
            status = "degraded"
        else:
            status = "ok"
        report = {
            "status": status,
            "registries": {flavor.name or "registries": _describe(flavor) for flavor in flavors},
        }
        return answers.json_text(report, HTTPStatus.SERVICE_UNAVAILABLE if status == "unavailable" else HTTPStatus.OK)


def _is_troubled(flavor: Flavor) -> bool:
    ages = [_age(poll.succeeded) for poll in flavor.polls]
    return any(poll.error for poll in flavor.polls) or not any(age is not None and age < STALE_SECONDS for age in ages)


def _describe(flavor: Flavor) -> dict[str, Any]:
    return {
        "published": flavor.published,
        "storage_servers": {
            poll.server.name: {
                "error": poll.error and printable(poll.error),
                "seconds_since_success": _age(poll.succeeded),
            }
            for poll in flavor.polls
        },
    }


def _age(since: float | None) -> float | None:
    return None if since is None else round(trio.current_time() - since, 3)

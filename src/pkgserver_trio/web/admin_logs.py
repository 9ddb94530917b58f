"""`/admin/logs`: the log, live, until the client leaves or the server stops."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

import structlog
from quart_trio.wrappers import TrioResponse

from pkgserver_trio.web import answers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from pkgserver_trio.logs.hub import LogHub, Watcher
    from pkgserver_trio.web.request import Request

_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "level": ("info", "debug", "warning", "error"),
    "color": ("true", "false"),
}
_HEADERS: Final = {"Content-Type": "text/plain; charset=utf-8", "X-Accel-Buffering": "no"}


async def get_logs(hub: LogHub, request: Request) -> TrioResponse:
    """Answer with every line that is logged from now on; `level` is the least severe of them, default `info`."""
    options = {name: choices[0] for name, choices in _CHOICES.items()}
    for name, value in parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True):
        if value not in _CHOICES.get(name, ()):
            return answers.text(_usage(), HTTPStatus.BAD_REQUEST)
        options[name] = value
    cut = request.scope["state"]["cut"]
    watch = hub.watch(options["level"], colour=options["color"] == "true", cut=cut)
    watcher = request.belongings.enter_context(watch)
    structlog.get_logger().info("the log is watched", peer=request.peer, from_level=options["level"])
    return TrioResponse(_lines(watcher), HTTPStatus.OK, _HEADERS)


async def _lines(watcher: Watcher) -> AsyncIterator[bytes]:
    while text := await watcher.take():
        yield text.encode("ascii")


def _usage() -> str:
    known = " and ".join(f"{name} ({', '.join(choices)})" for name, choices in _CHOICES.items())
    return f"what can be chosen here is {known}\n"

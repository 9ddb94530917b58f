"""The demonstration: the whole server on loopback, with an embedded storage server and nothing from outside."""

from __future__ import annotations

import tempfile
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import click
import trio

from pkgserver_trio.demo.check import check_all
from pkgserver_trio.demo.sample import GENERAL_UUID, build_sample
from pkgserver_trio.demo.storage_server import storage_server
from pkgserver_trio.logs.setup import open_logs
from pkgserver_trio.main import listening, url_of
from pkgserver_trio.main import run as run_server
from pkgserver_trio.process import run_until_signal
from pkgserver_trio.settings import Settings
from pkgserver_trio.web.client_connection import Times
from pkgserver_trio.web.serving import Server

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pkgserver_trio.main import Running

_PORT = 8000
_HINT = """
A Julia package server is running at {url}, with a storage server of {count} sample packages behind it.
In another terminal:

    JULIA_DEPOT_PATH="$(mktemp -d)" JULIA_PKG_SERVER={url} julia -e 'using Pkg; Pkg.add("Hello")'

The sample registry calls itself General, as clients insist on one of that name:
never use it with your real depot, only with a throw-away one as above. Ctrl-C ends it.
"""


def run(*, check: bool, port: int | None) -> int:
    """Serve the sample until a signal comes; with `check`, fetch all of it once instead. Return the exit code."""
    level = "warning" if check else "info"
    with open_logs(level=level, log_format="text"), tempfile.TemporaryDirectory(prefix="pkgserver-demo-") as root:
        return run_until_signal(partial(_run, root, check, port))


async def _run(root: str, check: bool, port: int | None, stopping: trio.Event) -> int:  # noqa: FBT001 # from `run` alone
    sample = build_sample()
    async with listening("127.0.0.1", 0) as upstream, trio.open_nursery() as nursery:
        nursery.start_soon(_serve_storage, sample.files, upstream)
        settings = _settings(root, 0 if check else _PORT if port is None else port, url_of(upstream[0]))
        running: Running = await nursery.start(run_server, settings, stopping)
        code = 0
        if check:
            code = await check_all(running.url, sample)
            stopping.set()
        else:
            click.echo(_HINT.format(url=running.url, count=len(sample.packages)))
        await running.stopped.wait()
        nursery.cancel_scope.cancel()
    return code


def _settings(root: str, port: int, upstream: str) -> Settings:
    return Settings.from_mapping(
        {
            "JULIA_PKG_SERVER": f"127.0.0.1:{port}",
            "PKGSERVER_PUBLIC_URL": f"http://127.0.0.1:{port}" if port else "",  # blank: the default
            "JULIA_PKG_SERVER_STORAGE_ROOT": root,
            "JULIA_PKG_SERVER_STORAGE_SERVERS": upstream,
            "PKGSERVER_KEEP_FREE": "0",  # a few kilobytes fit anywhere
            "PKGSERVER_REGISTRIES": GENERAL_UUID,  # without an origin: the sample is not the real one
        }
    )


async def _serve_storage(files: Mapping[str, bytes], listeners: list[trio.SocketListener]) -> None:
    server = Server(cast("Any", storage_server(files)), times=Times(60, 60, 60), max_connections=1000)
    await server.serve(listeners, trio.Event(), graceful_seconds=0)  # until it is cancelled

"""The log is watched at debug level by many, of whom one takes nothing, and requests do not notice.

PkgServer.jl has no such test; it keeps all that a slow watcher has not taken, without a bound.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.acceptance.target import eventually, get_until_cached, lacks
from tests.acceptance.watch import watching

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.acceptance.target import Target
    from tests.web.tarball import Tarball

DEBUG = "?level=debug&color=false"
CLIENTS = 4
#: By each of them. In all that is more lines than wait for a watcher and the buffers on their way to him take.
ASKED = 500
#: Far less than a stalled watcher is borne with, and far more than an answer takes on a busy machine.
SLOW_SECONDS = 2


def ask_all(target: Target, hit: Tarball, misses: list[Tarball]) -> list[float]:
    """Ask for a resource that is cached, and now and then for one that is not; return how long each answer took."""
    took = []
    with target.client() as client:
        for number in range(ASKED):
            tarball = misses.pop() if misses and number % 20 == 0 else hit
            began = time.perf_counter()
            status, _, body = client.ask(tarball.path)
            took.append(time.perf_counter() - began)
            assert (status, body) == (200, tarball.body)
    return took


def load(target: Target, hit: Tarball, fresh: Callable[[int], Tarball]) -> list[float]:
    """Do the same from several clients at once."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(ask_all, target, hit, [fresh(10_000) for _ in range(5)]) for _ in range(CLIENTS)]
        return [seconds for client in clients for seconds in client.result()]


def test_ten_watchers_of_whom_one_takes_nothing_have_no_effect_on_requests(
    target: Target, fresh: Callable[[int], Tarball], authorization: str
) -> None:
    if not target.server_urls:
        lacks("address without anything in between")
    server = replace(target, base_url=target.server_urls[0])
    hit = fresh(10_000)
    with ExitStack() as stack:
        client, stalled = (stack.enter_context(server.client()) for _ in range(2))
        get_until_cached(client, hit.path, hit.body)
        untaken = stalled.begin(f"/admin/logs{DEBUG}", Authorization=authorization)
        watches = [stack.enter_context(watching(server, authorization, DEBUG)) for _ in range(9)]
        assert max(load(server, hit, fresh)) < SLOW_SECONDS

        after = stack.enter_context(server.client())  # what was idle for so long may be closed

        def is_seen_by_all() -> bool:
            assert after.ask(hit.path, X_Request_ID="after-the-load")[0] == 200
            return all(b"after-the-load" in watch.text for watch in watches)

        eventually(is_seen_by_all)
        text = b""
        while b"lines are missing here" not in text:  # or nothing stalled
            text += untaken.read1(65_536)

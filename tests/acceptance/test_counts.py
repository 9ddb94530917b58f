"""What is counted.

Answers of PkgServer.jl's tests: "Access Tracking", and the metrics, by their names there. Ours differ: there are no
metrics of Julia's garbage collector, and hits that an nginx serves are counted too.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from tests.acceptance.target import eventually, get_until_cached

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.e2e.client import Client
    from tests.web.tarball import Tarball

COUNTS = {
    *("packages_cached", "artifacts_cached", "total_hits", "cached_hits", "fetch_hits", "total_misses"),
    *("payload_bytes_received", "payload_bytes_transmitted"),
}
NUMBER = r"[0-9][0-9.e+]*"
KINDS = ("registry", "package", "artifact")
METRICS = (
    "pkgserver_http_requests_inprogress",
    "pkgserver_registry_updates_total",
    "pkgserver_received_bytes_total",
    "pkgserver_transmitted_bytes_total",
    "nginx_pkgserver_transmitted_bytes_total",
    *(f'pkgserver_cached_resource_{what}{{resource_type="{kind}"}}' for what in ("files", "bytes") for kind in KINDS),
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
)
LABELS = {"/": "/", "/meta/stats": "/meta", "/registries": "/registries", "/metrics": "/metrics", "/docs": "<other>"}


def read_stats(servers: Sequence[Client]) -> list[dict[str, Any]]:
    """Return what each server counts."""
    answers = [server.ask("/meta/stats") for server in servers]
    assert all(status == 200 for status, _, _ in answers)
    return [json.loads(body) for _, _, body in answers]


def read_use(servers: Sequence[Client], path: str) -> tuple[int, float]:
    """Return how often a resource was served, by all servers, and when for the last time, in Unix seconds."""
    uses = [stats["lru"].get(path[1:], {"num_accessed": 0, "last_accessed": 0}) for stats in read_stats(servers)]
    return sum(use["num_accessed"] for use in uses), max(use["last_accessed"] for use in uses)


def test_each_access_of_a_resource_is_counted_and_dated(
    client: Client, servers: Sequence[Client], fresh: Callable[[int], Tarball]
) -> None:
    artifact = fresh(3000)
    times = get_until_cached(client, artifact.path, artifact.body)
    eventually(lambda: read_use(servers, artifact.path)[0] == times)
    last = read_use(servers, artifact.path)[1]
    for _ in range(5):
        assert client.ask(artifact.path)[2] == artifact.body
    eventually(lambda: read_use(servers, artifact.path)[0] == times + 5)
    assert read_use(servers, artifact.path)[1] > last


def test_stats_have_the_counts_that_monitors_know(servers: Sequence[Client]) -> None:
    for stats in read_stats(servers):
        assert {name for name, count in stats.items() if type(count) is int} == COUNTS
        assert isinstance(stats["lru"], dict)


def test_stats_tell_what_is_cached_and_how_much_came_and_went(
    client: Client, servers: Sequence[Client], fresh: Callable[[int], Tarball]
) -> None:
    def total(name: str) -> int:
        return sum(stats[name] for stats in read_stats(servers))

    before = {name: total(name) for name in ("artifacts_cached", "cached_hits", "fetch_hits", "total_misses")}
    artifact = fresh(3000)
    get_until_cached(client, artifact.path, artifact.body)
    assert client.ask(f"/artifact/{'0' * 40}")[0] == 404
    eventually(lambda: all(total(name) > value for name, value in before.items()))
    eventually(lambda: total("payload_bytes_transmitted") >= 2 * len(artifact.body))
    assert total("payload_bytes_received") >= len(artifact.body)
    assert total("total_hits") == total("cached_hits") + total("fetch_hits")


@pytest.mark.parametrize("name", METRICS)
def test_metrics_have_the_names_that_dashboards_know(servers: Sequence[Client], name: str) -> None:
    for server in servers:
        status, headers, body = server.ask("/metrics")
        assert status == 200
        assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert re.search(rf"^{re.escape(name)} {NUMBER}$", body.decode(), re.MULTILINE)


@pytest.mark.parametrize(("path", "label"), LABELS.items())
def test_requests_are_timed_by_what_they_ask_for(servers: Sequence[Client], path: str, label: str) -> None:
    line = rf'^pkgserver_http_request_duration_seconds_count{{target="{label}"}} ({NUMBER})$'

    def count(server: Client) -> float:
        found = re.search(line, server.ask("/metrics")[2].decode(), re.MULTILINE)
        return float(found[1]) if found else 0

    for server in servers:
        before = count(server)
        server.ask(path)
        eventually(lambda: count(server) > before)  # noqa: B023 # called here only

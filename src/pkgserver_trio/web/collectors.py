"""What `/metrics` tells beside the registries; docs/metrics.md says what each of it means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from pkgserver_trio.resource import TARBALLS, Kind
from pkgserver_trio.statistics import Outcome

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from prometheus_client.core import Metric

    from pkgserver_trio.library import Library
    from pkgserver_trio.mirror.mirror import Mirror
    from pkgserver_trio.registries.registries import Registries
    from pkgserver_trio.statistics import Histogram, ServerTally, Statistics
    from pkgserver_trio.storage.store import Store

    _Rows = Iterable[tuple[Sequence[str], float]]


class RequestCollector(Collector):
    """Requests, what became of them, and what was sent."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        now = self._statistics
        yield _histogram(
            "pkgserver_http_request_duration_seconds", "Time to answer, the body included.", "target", now.durations
        )
        yield _gauge("pkgserver_http_requests_inprogress", "Requests being answered.", now.requests_in_progress)
        yield _counters(
            "pkgserver_requests",
            "Requests for resources, by what became of them.",
            ("resource_type", "outcome"),
            (((kind, outcome), now.answers[kind, outcome]) for kind in Kind for outcome in Outcome),
        )
        yield _counters(
            "pkgserver_head_requests",
            "HEAD requests for resources.",
            ("resource_type",),
            (((kind,), now.heads[kind]) for kind in Kind),
        )
        yield _counter("pkgserver_answers_broken_off", "Answers that were not finished.", now.broken_off_answers)
        yield _counter("pkgserver_transmitted_bytes", "Bytes of resources sent to clients.", now.transmitted_bytes)
        by_nginx = now.nginx_transmitted_bytes
        yield _counter("nginx_pkgserver_transmitted_bytes", "Bytes of resources that nginx sent.", by_nginx)
        delay = {"": now.loop_delay_seconds}
        yield _histogram("pkgserver_event_loop_delay_seconds", "How late a timer fires.", None, delay)


class CacheCollector(Collector):
    """The cache and its disk."""

    def __init__(self, store: Store, mirror: Mirror | None = None) -> None:
        self._store = store
        self._indexes = dict.fromkeys(TARBALLS, store.index)
        if mirror is not None:
            self._indexes[Kind.MIRROR] = mirror.library.store.index

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        held = {kind: index.held(kind) for kind, index in self._indexes.items()}
        evicting = set(self._indexes.values())
        for name, number in (("files", 0), ("bytes", 1)):
            family = GaugeMetricFamily(
                f"pkgserver_cached_resource_{name}", f"Cached resources, in {name}.", labels=["resource_type"]
            )
            for kind, numbers in held.items():
                family.add_metric([kind], numbers[number])
            yield family
        evicted_files = sum(index.evicted_files for index in evicting)
        yield _counter("pkgserver_evicted_files", "Files removed to make room.", evicted_files)
        yield _counter("pkgserver_evicted_bytes", "Their size.", sum(index.evicted_bytes for index in evicting))
        keep_free = self._store.space.keep_free_bytes
        yield _gauge("pkgserver_disk_keep_free_bytes", "What eviction keeps free.", keep_free)
        free = self._store.statistics.disk_free_bytes
        if free is not None:
            yield _gauge("pkgserver_disk_free_bytes", "What is free on the disk of the cache.", free)


class UpstreamCollector(Collector):
    """The storage servers, and the downloads from them."""

    def __init__(self, library: Library, registries: Registries, mirror: Mirror | None = None) -> None:
        self._downloads = [library.downloads] if mirror is None else [library.downloads, mirror.library.downloads]
        self._servers = library.downloads.servers
        self._origins = [] if mirror is None else list(mirror.origins.values())
        self._registries = registries

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        tallies, all_downloads = self._tallies(), self._downloads
        received = sum(tally.received_bytes for tally in tallies.values())
        yield _counter("pkgserver_received_bytes", "Bytes of resources got from storage servers.", received)
        yield _counter("pkgserver_registry_updates", "New registry heads published.", self._registries.updates)
        yield _gauge(
            "pkgserver_flights_inprogress", "Downloads under way.", sum(len(each.flights) for each in all_downloads)
        )
        yield _gauge("pkgserver_queue_length", "Resources waited for.", sum(each.waiting for each in all_downloads))
        yield from _told_of(tallies)

    def _tallies(self) -> dict[str, ServerTally]:
        """Return what happened with each storage server, and each origin of a bucket."""
        tallies = {server.name: server.tally for server in self._servers}
        return tallies | {origin.name: origin.tally for origin in self._origins}


class ConnectionCollector(Collector):
    """The connections of clients."""

    def __init__(self, connections: Collection[object]) -> None:
        self._connections = connections

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        yield _gauge("pkgserver_open_connections", "Connections of clients.", len(self._connections))


def _told_of(tallies: Mapping[str, ServerTally]) -> Iterator[Metric]:
    """Yield what is told of each server by name."""
    yield _counters(
        "pkgserver_verification_failures",
        "Deliveries that were not the tree asked for.",
        ("server",),
        (((name,), tally.corrupt) for name, tally in tallies.items()),
    )
    yield _counters(
        "pkgserver_upstream_failures",
        "Probes and deliveries that failed.",
        ("server", "reason"),
        _failures(tallies),
    )
    yield _histogram(
        "pkgserver_upstream_probe_seconds",
        "Time to answer a probe.",
        "server",
        {name: tally.probe_seconds for name, tally in tallies.items()},
    )


def _failures(tallies: Mapping[str, ServerTally]) -> Iterator[tuple[tuple[str, str], int]]:
    for name, tally in tallies.items():
        yield (name, "silent"), tally.silent
        yield (name, "broken"), tally.broken


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(name, meaning, value=value)


def _counter(name: str, meaning: str, value: float) -> Metric:
    """Return a counter; the format adds `_total` to its name."""
    return CounterMetricFamily(name, meaning, value=value)


def _counters(name: str, meaning: str, labels: Sequence[str], rows: _Rows) -> Metric:
    family = CounterMetricFamily(name, meaning, labels=labels)
    for values, count in rows:
        family.add_metric(values, count)
    return family


def _histogram(name: str, meaning: str, label: str | None, histograms: Mapping[str, Histogram]) -> Metric:
    """Return one histogram for each value of `label`; without a label, there is one."""
    family = HistogramMetricFamily(name, meaning, labels=[] if label is None else [label])
    for value, histogram in histograms.items():
        buckets = [(str(float(bound)).replace("inf", "+Inf"), count) for bound, count in histogram.buckets()]
        family.add_metric([] if label is None else [value], buckets, histogram.sum)
    return family

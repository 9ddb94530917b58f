"""`/metrics`, in the text format of Prometheus. Everything is read when it is asked for; nothing is kept here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from pkgserver_trio import __version__
from pkgserver_trio.web.collectors import CacheCollector, ConnectionCollector, RequestCollector, UpstreamCollector

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from prometheus_client.core import Metric

    from pkgserver_trio.library import Library
    from pkgserver_trio.mirror.mirror import Mirror
    from pkgserver_trio.registries.flavor import Flavor
    from pkgserver_trio.registries.registries import Registries

#: The version of the text format that is written.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """All metrics of one server."""

    def __init__(self, library: Library, registries: Registries, mirror: Mirror | None = None) -> None:
        self._collectors = CollectorRegistry(auto_describe=False)
        self._collectors.register(RequestCollector(library.statistics))
        self._collectors.register(CacheCollector(library.store, mirror))
        self._collectors.register(UpstreamCollector(library, registries, mirror))
        self._collectors.register(RegistryCollector(registries))
        self._collectors.register(VersionCollector())
        ProcessCollector(registry=self._collectors)

    def watch(self, connections: Collection[object]) -> None:
        """Tell of these connections, too: they exist only after the application."""
        self._collectors.register(ConnectionCollector(connections))

    def render(self) -> bytes:
        """Return them as they are now."""
        return generate_latest(self._collectors)


class VersionCollector(Collector):
    """Which server this is."""

    def collect(self) -> Iterator[Metric]:
        """Yield the metric."""
        info = GaugeMetricFamily("pkgserver_info", "The server, by its version.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info


class RegistryCollector(Collector):
    """How old each registry is, who vouched for it when, and who tried to move it back."""

    def __init__(self, registries: Registries) -> None:
        self._registries = registries

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        flavors = self._registries.flavors.values()
        ready = any(flavor.listing is not None for flavor in flavors)
        yield GaugeMetricFamily("pkgserver_ready", "Whether there is a registry to serve.", value=ready)
        held_back, age, success, refused = _held_back(), _age(), _success(), _refused()
        for flavor in flavors:
            for uuid in sorted({*flavor.published, *flavor.held_back}):
                held_back.add_metric([uuid, flavor.label], bool(flavor.held_back.get(uuid)))
            for uuid in sorted(flavor.published):
                if (seconds := flavor.age_seconds(uuid)) is not None:
                    age.add_metric([uuid, flavor.label], seconds)
                for server, seconds in _listed_seconds(flavor, uuid).items():
                    labels = [uuid, flavor.label, server]
                    success.add_metric(labels, seconds)
                    refused.add_metric(labels, flavor.rollbacks.refused[uuid, server])
        yield from (held_back, age, success, refused)


def _listed_seconds(flavor: Flavor, uuid: str) -> dict[str, float]:
    """Return when each storage server last listed a registry, in Unix seconds.

    0 where it does not, or has not answered yet: without a value there would be nothing to raise an alarm about.
    """
    listed: dict[str, float] = {}
    for poll in flavor.polls:
        seconds = poll.succeeded_seconds or 0 if uuid in poll.heads else 0
        listed[poll.server.name] = max(seconds, listed.get(poll.server.name, 0))
    return listed


def _held_back() -> GaugeMetricFamily:
    text = "Whether a new head is not taken because its origin does not confirm it."
    return GaugeMetricFamily("pkgserver_registry_held_back", text, labels=["registry", "flavor"])


def _age() -> GaugeMetricFamily:
    text = "Time since the published head was adopted."
    return GaugeMetricFamily("pkgserver_registry_age_seconds", text, labels=["registry", "flavor"])


def _success() -> GaugeMetricFamily:
    name = "pkgserver_registry_last_success_timestamp_seconds"
    text = "When a storage server last listed the registry, in Unix time."
    return GaugeMetricFamily(name, text, labels=["registry", "flavor", "server"])


def _refused() -> CounterMetricFamily:
    name = "pkgserver_registry_rollbacks_refused"
    text = "How often a storage server tried to move the registry back."
    return CounterMetricFamily(name, text, labels=["registry", "flavor", "server"])

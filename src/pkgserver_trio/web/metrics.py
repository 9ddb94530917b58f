"""`/metrics`, in the text format of Prometheus. Everything is read when it is asked for; nothing is kept here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from pkgserver_trio.registries import Registries

#: The version of the text format that is written.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """All metrics of one server."""

    def __init__(self, registries: Registries) -> None:
        self._collectors = CollectorRegistry(auto_describe=False)
        self._collectors.register(RegistryCollector(registries))

    def render(self) -> bytes:
        """Return them as they are now."""
        return generate_latest(self._collectors)


class RegistryCollector(Collector):
    """How old each registry is, who vouched for it when, and who tried to move it back."""

    def __init__(self, registries: Registries) -> None:
        self._registries = registries

    def describe(self) -> list[Metric]:
        """Return nothing: the names do not depend on what there is to measure, so registering asks for no values."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        age, success, refused = _age(), _success(), _refused()
        for flavor in self._registries.flavors.values():
            for uuid in sorted(flavor.published):
                if (seconds := flavor.age_seconds(uuid)) is not None:
                    age.add_metric([uuid, flavor.label], seconds)
                for poll in flavor.polls:
                    labels = [uuid, flavor.label, poll.server.name]
                    if uuid in poll.heads and poll.succeeded_seconds is not None:
                        success.add_metric(labels, poll.succeeded_seconds)
                    refused.add_metric(labels, flavor.rollbacks.refused[uuid, poll.server.name])
        yield from (age, success, refused)


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

"""Registries as operators see them: `/metrics` and what `/readyz` tells of each."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families
from tests.web.site import until

from pkgserver_trio.demo.sample import build_sample

if TYPE_CHECKING:
    from tests.web.site import Serve, Site

    from pkgserver_trio.demo.sample import Sample

#: Name of a sample, then its labels, sorted by name.
Key = tuple[str, *tuple[tuple[str, str], ...]]


async def scrape(site: Site) -> dict[Key, float]:
    answer = await site.client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples = (sample for family in text_string_to_metric_families(answer.text) for sample in family.samples)
    return {(sample.name, *sorted(sample.labels.items())): sample.value for sample in samples}


async def test_each_registry_has_an_age_and_who_listed_it_when(ready: Site, sample: Sample) -> None:
    values = await scrape(ready)
    server = ("server", ready.upstream.url)
    for flavor in ("eager", "conservative"):
        labels = (("flavor", flavor), ("registry", sample.registry.uuid))
        assert 0 <= values["pkgserver_registry_age_seconds", *labels] < 60
        assert abs(values["pkgserver_registry_last_success_timestamp_seconds", *labels, server] - time.time()) < 60
        assert values["pkgserver_registry_rollbacks_refused_total", *labels, server] == 0


async def test_a_head_that_moves_back_is_counted_and_told(serve: Serve, sample: Sample) -> None:
    newer = build_sample(generation=2)
    site = await serve(files=sample.files, ready=True)
    site.upstream.files = newer.files
    head = newer.registry.tree_hash
    flavor = site.running.registries.flavors["eager"]
    await until(lambda: head in flavor.published.values())
    site.upstream.files = {**newer.files, **sample.files}
    await until(lambda: flavor.rollbacks.refused)
    report = (await site.client.get("/readyz")).json()["registries"]["eager"]
    published = report["published"][sample.registry.uuid]
    assert (published["hash"], published["refused_rollbacks"]) == (head, {site.upstream.url: 1})
    assert 0 <= published["age_seconds"] < 60
    assert published["adopted"].startswith("20")
    assert report["storage_servers"][site.upstream.url]["flavors"] is True
    labels = (("flavor", "eager"), ("registry", str(sample.registry.uuid)), ("server", site.upstream.url))
    assert (await scrape(site))["pkgserver_registry_rollbacks_refused_total", *labels] == 1

"""`/metrics`, and what `/readyz` tells of each registry."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from tests.fakes import Behaviour
from tests.web.site import halved, until

from pkgserver_trio.demo.sample import build_sample
from pkgserver_trio.resource import Kind, Resource
from pkgserver_trio.statistics import TARGETS

if TYPE_CHECKING:
    from tests.web.site import Serve, Site

    from pkgserver_trio.demo.sample import Sample

#: Name of a sample, then its labels, sorted by name.
Key = tuple[str, *tuple[tuple[str, str], ...]]


async def scrape(site: Site, running: int = 0) -> dict[Key, float]:
    """Return what is measured once no more than `running` requests are: an answer is whole before its request ends."""
    await until(lambda: site.library.statistics.requests_in_progress == running)
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


async def test_a_registry_that_nobody_lists_is_still_measured(serve: Serve, sample: Sample) -> None:
    site = await serve(files=sample.files, ready=True)
    (poll,) = site.running.registries.flavors["eager"].polls
    site.upstream.files = {path: body for path, body in sample.files.items() if not path.startswith("/registries")}
    name, flavor = "pkgserver_registry_last_success_timestamp_seconds", ("flavor", "eager")
    labels = (flavor, ("registry", sample.registry.uuid), ("server", site.upstream.url))
    await until(lambda: poll.failing)
    assert abs((await scrape(site))[name, *labels] - time.time()) < 60
    await site.stop()
    site = await serve()  # with the registry of the first one, and nobody upstream
    assert (await scrape(site))["pkgserver_ready",] == 1
    labels = (flavor, ("registry", sample.registry.uuid), ("server", site.upstream.url))
    assert (await scrape(site))[name, *labels] == 0


async def test_a_registry_has_one_value_for_two_servers_of_one_name(serve: Serve, sample: Sample) -> None:
    site = await serve(files=sample.files, ready=True)
    await site.stop()
    again = await serve(JULIA_PKG_SERVER_STORAGE_SERVERS="http://u:x@127.0.0.1:9,http://v:y@127.0.0.1:9")
    lines = [line for line in (await again.client.get("/metrics")).text.splitlines() if line.startswith("pkgserver_")]
    assert any("registry_last_success" in line for line in lines)
    names = [line.rpartition(" ")[0] for line in lines]
    assert len(names) == len(set(names))


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


async def test_requests_are_timed_by_target_and_none_is_left_in_progress(ready: Site, sample: Sample) -> None:
    await ready.warm(sample.artifact.path)
    before = await scrape(ready)
    for path in (sample.artifact.path, "/meta", "/meta/stats", "/no/such"):
        await ready.client.get(path)
    after = await scrape(ready)
    name = "pkgserver_http_request_duration_seconds"
    grown = {
        target: after[f"{name}_count", ("target", target)] - before[f"{name}_count", ("target", target)]
        for target in TARGETS
    }
    expected = {"/artifact": 1, "/meta": 2, "<other>": 1, "/metrics": 1}
    assert grown == {target: expected.get(target, 0) for target in TARGETS}
    whole = ("le", "+Inf"), ("target", "/artifact")
    assert after[f"{name}_bucket", *whole] == after[f"{name}_count", ("target", "/artifact")]
    assert 0 < after[f"{name}_sum", ("target", "/artifact")] < 60
    assert after["pkgserver_http_requests_inprogress",] == 1  # the scrape itself


async def test_outcomes_bytes_and_what_is_cached_are_counted_by_kind(ready: Site, sample: Sample) -> None:
    path, size = sample.artifact.path, len(sample.files[sample.artifact.path])
    before = await scrape(ready)
    await ready.warm(path)
    await ready.client.head(path)
    await ready.client.get(f"/artifact/{'0' * 40}")
    ready.library.statistics.count_nginx_hit(Resource(Kind.ARTIFACT, sample.artifact.tree_hash), 77)
    after = await scrape(ready)
    kind = ("resource_type", "artifact")
    changed = {key: value - before[key] for key, value in after.items() if value != before[key]}
    expected = {
        ("pkgserver_requests_total", ("outcome", "hit"), kind): 2,
        ("pkgserver_requests_total", ("outcome", "miss"), kind): 1,
        ("pkgserver_requests_total", ("outcome", "absent"), kind): 1,
        ("pkgserver_head_requests_total", kind): 1,
        ("pkgserver_cached_resource_files", kind): 1,
        ("pkgserver_cached_resource_bytes", kind): size,
        ("pkgserver_received_bytes_total",): size,
        ("pkgserver_transmitted_bytes_total",): 2 * size,
        ("nginx_pkgserver_transmitted_bytes_total",): 77,
    }
    names = {key[0] for key in expected}
    assert {key: value for key, value in changed.items() if key[0] in names} == expected


async def test_a_download_under_way_is_a_flight_and_its_second_client_coalesced(serve: Serve, sample: Sample) -> None:
    path, release = sample.artifact.path, trio.Event()
    site = await serve(files=sample.files, script={("GET", path): halved(sample.files[path], release)}, ready=True)
    async with site.client.stream("GET", path) as first, site.client.stream("GET", path) as second:
        values = await scrape(site, running=2)
        assert values["pkgserver_flights_inprogress",] == 1
        assert values["pkgserver_queue_length",] == 0
        assert values["pkgserver_open_connections",] >= 3
        assert values["pkgserver_http_requests_inprogress",] == 3
        release.set()
        await first.aread()
        await second.aread()
    await site.settle()
    values = await scrape(site)
    assert values["pkgserver_flights_inprogress",] == 0
    for outcome in ("miss", "coalesced"):
        labels = (("outcome", outcome), ("resource_type", "artifact"))
        assert values["pkgserver_requests_total", *labels] == 1


async def test_what_waits_for_a_storage_server_is_the_queue(serve: Serve, sample: Sample) -> None:
    path = sample.artifact.path
    site = await serve(files=sample.files, script={("HEAD", path): Behaviour(never_answer=True)}, ready=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.client.head, path)
        await site.upstream.wait_for("HEAD", path)
        assert (await scrape(site, running=1))["pkgserver_queue_length",] == 1
        nursery.cancel_scope.cancel()


async def test_failures_of_a_storage_server_are_counted_by_reason(serve: Serve, sample: Sample) -> None:
    wrong, broken = sample.artifact.path, sample.packages[0].path
    script = {("GET", wrong): Behaviour(body=sample.files[broken]), ("HEAD", broken): Behaviour(status=500)}
    site = await serve(files=sample.files, script=script, ready=True)
    server = ("server", site.upstream.url)
    probes = (await scrape(site))["pkgserver_upstream_probe_seconds_count", server]
    with pytest.raises(httpx.RemoteProtocolError):
        await site.client.get(wrong)
    assert (await site.client.get(broken)).status_code == 502
    values = await scrape(site)
    assert values["pkgserver_verification_failures_total", server] == 1
    assert values["pkgserver_upstream_failures_total", ("reason", "broken"), server] == 1
    assert values["pkgserver_upstream_failures_total", ("reason", "silent"), server] == 0
    assert values["pkgserver_upstream_probe_seconds_count", server] == probes + 2
    assert values["pkgserver_requests_total", ("outcome", "failed"), ("resource_type", "package")] == 1
    assert values["pkgserver_requests_total", ("outcome", "miss"), ("resource_type", "artifact")] == 1
    assert values["pkgserver_answers_broken_off_total",] == 1


async def test_two_servers_of_one_name_are_counted_as_one(serve: Serve, sample: Sample) -> None:
    site = await serve(JULIA_PKG_SERVER_STORAGE_SERVERS="http://u:x@127.0.0.1:9,http://v:y@127.0.0.1:9")
    assert (await site.client.get(sample.artifact.path)).status_code == 502
    labels = (("reason", "broken"), ("server", "http://***@127.0.0.1:9"))
    assert (await scrape(site))["pkgserver_upstream_failures_total", *labels] == 2
    assert (await site.client.get("/metrics")).text.count("pkgserver_upstream_probe_seconds_count{") == 1


async def test_evictions_are_counted_in_files_and_bytes(serve: Serve, sample: Sample) -> None:
    artifact, package = sample.artifact.path, sample.packages[0].path
    size = len(sample.files[artifact])
    site = await serve(files=sample.files, ready=True, PKGSERVER_MAX_CACHE=str(size + 3000))
    await site.warm(artifact)
    held = site.library.store.index.total_bytes
    site.library.store.space.max_cache_bytes = held
    await site.warm(package)
    values = await scrape(site)
    assert values["pkgserver_evicted_files_total",] == 1
    assert values["pkgserver_evicted_bytes_total",] == size
    assert values["pkgserver_cached_resource_files", ("resource_type", "artifact")] == 0


async def test_a_server_without_a_registry_is_not_ready(serve: Serve, sample: Sample) -> None:
    site = await serve()
    assert (await scrape(site))["pkgserver_ready",] == 0
    site.upstream.files = sample.files
    await site.when_ready()
    values = await scrape(site)
    assert values["pkgserver_ready",] == 1
    assert values["pkgserver_registry_updates_total",] == 2
    labels = (("flavor", "eager"), ("registry", sample.registry.uuid))
    assert values["pkgserver_registry_held_back", *labels] == 0
    site.running.registries.flavors["eager"].held_back[sample.registry.uuid] = {
        "0" * 40: "unknown: its origin does not know it"
    }
    assert (await scrape(site))["pkgserver_registry_held_back", *labels] == 1


async def test_the_disk_the_event_loop_and_the_process_are_measured(ready: Site) -> None:
    await until(lambda: ready.library.statistics.disk_free_bytes)
    values = await scrape(ready)
    assert values["pkgserver_disk_free_bytes",] > 0
    assert values["pkgserver_disk_keep_free_bytes",] == 0
    assert ("pkgserver_event_loop_delay_seconds_count",) in values
    assert values["process_resident_memory_bytes",] > 1_000_000
    ready.library.statistics.disk_free_bytes = None
    assert ("pkgserver_disk_free_bytes",) not in await scrape(ready)

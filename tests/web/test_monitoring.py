"""The dashboard and the alert rules: they can be read, and name only what a real scrape has."""

from __future__ import annotations

import importlib
import json
import re
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.web.site import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.web.site import Site

MONITORING = Path(__file__).parents[2] / "compose" / "monitoring"
#: Which of the two there is depends on Python (pyproject.toml).
yaml: Any = importlib.import_module("yaml" if find_spec("yaml") else "yaml_ft")

FUNCTIONS = {
    "sum",
    "count",
    "max",
    "rate",
    "increase",
    "time",
    "vector",
    "histogram_quantile",
    "label_values",
    "by",
    "or",
}
#: What Prometheus itself puts on every sample.
SCRAPE_LABELS = {"instance", "job"}
#: Its own word about a scrape.
SCRAPE_METRICS = {"up": SCRAPE_LABELS}
NAME = r"[a-zA-Z_]\w*"


def dashboard() -> Any:  # noqa: ANN401 # JSON
    return json.loads((MONITORING / "grafana" / "pkgserver.json").read_text("utf-8"))


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "prometheus" / "alerts.yml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    yield from (target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ()))


def selected_by(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Yield each metric that is selected by labels, and these."""
    for metric, selector in re.findall(rf"({NAME})\{{([^}}]*)\}}", expression):
        yield metric, set(re.findall(rf"({NAME})\s*(?:=~|!~|!=|=)", selector))


def grouped_by(expression: str) -> set[str]:
    return {name for names in re.findall(r"\bby \(([^)]*)\)", expression) for name in names.split(", ")}


def metrics_in(expression: str) -> set[str]:
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]|\bby \([^)]*\)', " ", expression)
    return set(re.findall(NAME, bare)) - FUNCTIONS


def assert_balanced(expression: str) -> None:
    closing = {"(": ")", "[": "]", "{": "}"}
    expected: list[str] = []
    for character in re.sub(r'"[^"]*"', "", expression):
        if character in closing:
            expected.append(closing[character])
        elif character in closing.values():
            assert expected, expression
            assert expected.pop() == character, expression
    assert not expected, expression


@pytest.fixture
async def scraped(ready: Site) -> dict[str, set[str]]:
    """Give the names of all samples of a server that has begun to work, with their labels."""
    await until(lambda: ready.library.statistics.disk_free_bytes)
    labels: dict[str, set[str]] = defaultdict(set, SCRAPE_METRICS)
    for family in text_string_to_metric_families((await ready.client.get("/metrics")).text):
        for sample in family.samples:
            labels[sample.name] |= set(sample.labels)
    return labels


async def test_every_metric_and_label_that_is_named_exists(scraped: dict[str, set[str]]) -> None:
    for expression in expressions():
        metrics = metrics_in(expression)
        assert metrics, expression
        assert metrics <= set(scraped), expression
        assert grouped_by(expression) <= set.intersection(*(scraped[metric] for metric in metrics)) | SCRAPE_LABELS
        for metric, labels in selected_by(expression):
            assert labels <= scraped[metric] | SCRAPE_LABELS, expression


async def test_every_alert_has_what_it_tells(scraped: dict[str, set[str]]) -> None:
    for rule in rules():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"[0-9]+[smh]", rule.get("for", "0s"))
        assert rule["labels"]["severity"] in {"warning", "critical"}
        told = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert told <= set().union(*(scraped[metric] for metric in metrics_in(rule["expr"])))
        grouped = re.findall(r"\bby \(([^)]*)\)", rule["expr"])
        assert all(told <= set(names.split(", ")) - {"le"} for names in grouped)


def test_what_operators_have_to_know_has_an_alert() -> None:
    named = set().union(*(metrics_in(rule["expr"]) for rule in rules()))
    assert named >= {
        "up",
        "pkgserver_ready",
        "pkgserver_registry_last_success_timestamp_seconds",
        "pkgserver_registry_rollbacks_refused_total",
        "pkgserver_verification_failures_total",
        "pkgserver_disk_free_bytes",
        "pkgserver_requests_total",
    }
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))


def test_expressions_close_what_they_open_and_hold_no_unknown_word() -> None:
    for expression in expressions():
        assert_balanced(expression)
        named = metrics_in(expression) - set(SCRAPE_METRICS)
        assert all(name.startswith(("pkgserver_", "nginx_pkgserver_", "process_")) for name in named)


def test_the_panels_of_the_dashboard_do_not_overlap_and_name_what_they_show() -> None:
    panels = dashboard()["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    cells = [
        (place["x"] + x, place["y"] + y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["w"])
        for y in range(place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    for target in (target for panel in panels for target in panel.get("targets", ())):
        told = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        known = grouped_by(target["expr"]) or set().union(*(labels for _, labels in selected_by(target["expr"])))
        assert told <= known, target


def test_a_storage_server_that_is_down_is_told_of_also_where_it_is_hardly_asked_for_anything() -> None:
    (rule,) = (rule for rule in rules() if rule["alert"] == "PkgServerStorageServerFailing")
    by_requests, by_registries = rule["expr"].split(" or ")
    # At rest it is asked once a minute, and fails no oftener; while it does not answer, it lists nothing all the same.
    assert metrics_in(by_requests) == {"pkgserver_upstream_failures_total"}
    assert metrics_in(by_registries) == {"pkgserver_registry_last_success_timestamp_seconds"}
    assert grouped_by(by_requests) == grouped_by(by_registries) == {"instance", "server"}


async def test_the_dashboard_leaves_out_no_metric_of_ours(scraped: dict[str, set[str]]) -> None:
    shown = set().union(*(metrics_in(expression) for expression in expressions()))
    families = {re.sub("_(bucket|sum|count)$", "", name) for name in scraped if not name.startswith("process_")}
    assert families == {re.sub("_(bucket|count)$", "", name) for name in shown if not name.startswith("process_")}

"""The documentation says what the code does: a setting, metric or route that is missing fails here."""

from __future__ import annotations

import io
import re
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from dotenv import dotenv_values
from prometheus_client.parser import text_string_to_metric_families
from tests.web.site import start_site, until

from pkgserver_trio.demo.sample import build_sample
from pkgserver_trio.registry_list import FLAVORS
from pkgserver_trio.settings import Setting, Settings, all_settings, effective_texts
from pkgserver_trio.settings.deployment import DEPLOYMENT_NAMES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import trio
    from tests.web.site import Site

ROOT = Path(__file__).parent.parent
EVERY_SETTING = pytest.mark.parametrize("setting", all_settings(), ids=lambda setting: setting.name)


def env_example() -> str:
    return (ROOT / ".env.example").read_text("utf-8")


def settings_page() -> str:
    return (ROOT / "docs" / "settings.md").read_text("utf-8")


@EVERY_SETTING
def test_settings_page_has_the_row_of_every_setting(setting: Setting) -> None:
    cells = (
        f"`{setting.name}`",
        f"`{setting.default}`",
        setting.grammar.unit,
        setting.meaning,
        setting.grammar.expected,
    )
    assert f"| {' | '.join(cells)} |" in settings_page().splitlines()


def test_settings_page_has_rows_of_settings_only() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", settings_page(), re.MULTILINE)
    assert rows == [setting.name for setting in all_settings()]


@EVERY_SETTING
def test_env_example_explains_every_setting(setting: Setting) -> None:
    default = effective_texts({})[setting.name]
    block = f"# {setting.meaning}\n# Expected: {setting.grammar.expected}.\n#{setting.name}={default}\n"
    assert block in env_example()


def test_env_example_changes_nothing_as_it_is() -> None:
    assert dotenv_values(stream=io.StringIO(env_example()), interpolate=False) == {}


def test_env_example_uncommented_is_the_defaults() -> None:
    uncommented = re.sub(r"^#(?=\w+=)", "", env_example(), flags=re.MULTILINE)
    texts = dotenv_values(stream=io.StringIO(uncommented), interpolate=False)
    assert list(texts) == [*DEPLOYMENT_NAMES, *(setting.name for setting in all_settings())]
    assert Settings.from_mapping({name: text or "" for name, text in texts.items()}) == Settings.from_mapping({})


def cells_of(page: str) -> list[list[str]]:
    """Return the rows of all tables of a page, without their heads."""
    lines = (ROOT / "docs" / page).read_text("utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in lines if line.startswith("| `")]


@pytest.fixture
async def site(nursery: trio.Nursery, tmp_path: Path) -> AsyncIterator[Site]:
    site = await start_site(nursery, tmp_path, build_sample().files, {}, {})
    await site.when_ready()
    await until(lambda: site.library.statistics.disk_free_bytes)
    yield site
    await site.stop()


async def test_metrics_page_has_every_metric_with_type_and_labels_and_no_other(site: Site) -> None:
    expected = []
    for family in text_string_to_metric_families((await site.client.get("/metrics")).text):
        labels = {label for sample in family.samples for label in sample.labels if label != "le"}
        name = f"{family.name}_total" if family.type == "counter" else family.name
        expected.append((f"`{name}`", family.type, {f"`{label}`" for label in labels}))
    rows = [(name, kind, set(filter(None, labels.split(", ")))) for name, kind, labels, _ in cells_of("metrics.md")]
    assert sorted(rows, key=itemgetter(0)) == sorted(expected, key=itemgetter(0))


async def test_protocol_page_has_every_route(site: Site) -> None:
    app: Any = site.running.server.app.app
    routes = {*app._pages._pages, *app._meta._pages, "/registries", "/admin", "/notify"}
    routes |= {f"/registries.{name}" for name in FLAVORS}
    routes |= {"/registry/{uuid}/{hash}", "/package/{uuid}/{hash}", "/artifact/{hash}", "/artifact/{hash}/{name}"}
    first_cells = [row[0] for row in cells_of("protocol.md")]
    documented = {path for cell in first_cells for path in re.findall(r"`(/[^`]*)`", cell)}
    assert routes <= documented
    page = (ROOT / "docs/protocol.md").read_text("utf-8")
    assert set(app._admin._routes) <= set(re.findall(r"^\| [A-Z, ]+ \| `([^`]*)` \|", page, re.MULTILINE))
    for path in documented - routes:
        assert (await site.client.get(path)).status_code != 404, path

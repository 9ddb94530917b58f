"""The documentation says what the code does: a setting, metric or route that is missing fails here.

And it names only what there is: links, files, settings, log events, commands and make targets.
"""

from __future__ import annotations

import ast
import io
import re
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from dotenv import dotenv_values
from prometheus_client.parser import text_string_to_metric_families
from tests.web.site import start_site, until

from pkgserver_trio.cli import pkgserver
from pkgserver_trio.demo.sample import build_sample
from pkgserver_trio.registry_list import FLAVORS
from pkgserver_trio.settings import Setting, Settings, all_settings, effective_texts
from pkgserver_trio.settings.deployment import DEPLOYMENT_NAMES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import click
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
    for path in documented - routes:
        assert (await site.client.get(path)).status_code != 404, path
    assert paths_in_src() <= documented | set(app._admin._routes) | PARTS_OF_PATHS


async def test_protocol_page_has_what_is_below_admin_by_method(site: Site) -> None:
    app: Any = site.running.server.app.app
    routes = {path: set(route._by_method) for path, route in app._admin._routes.items()}
    routes["/admin/cache/<path of a resource>"] = set(
        app._admin._removal(f"/admin/cache/artifact/{40 * '0'}")._by_method
    )
    documented: dict[str, set[str]] = {}
    page = (ROOT / "docs/protocol.md").read_text("utf-8")
    for methods, path in re.findall(r"^\| ([A-Z, ]+) \| `(/[^`]*)` \|", page, re.MULTILINE):
        documented.setdefault(path, set()).update(methods.split(", "))
    assert documented == routes


PARTS_OF_PATHS = {"/admin/", "/admin/cache", "/verify"}


def strings_of(module: Path) -> set[str]:
    """Return the string constants of a module, docstrings and all; of an f-string the parts between the braces."""
    return {
        node.value
        for node in ast.walk(ast.parse(module.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def paths_in_src() -> set[str]:
    """Return what looks like the whole path of a page, wherever the web layer has it."""
    modules = (ROOT / "src" / "pkgserver_trio" / "web").glob("*.py")
    return {text for module in modules for text in strings_of(module) if re.fullmatch(r"/[a-z][a-z./_-]*", text)}


PAGES = sorted(
    (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "compose").rglob("*.md")),
    key=lambda page: page.relative_to(ROOT),
)
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
_FENCED = re.compile(r"^ *```\w*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")


def prose_of(page: Path) -> str:
    """Return a page without its blocks of code."""
    return _FENCED.sub("", page.read_text("utf-8"))


def code_in(page: Path) -> list[str]:
    """Return every line of code of a page, in a block or in a sentence."""
    blocks = _FENCED.findall(page.read_text("utf-8"))
    return [*_SPAN.findall(prose_of(page)), *(line for block in blocks for line in block.splitlines())]


def anchors_of(page: Path) -> set[str]:
    """Return the names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@EVERY_PAGE
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        path, _, anchor = target.partition("#")
        if "://" in path:
            continue
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors_of(linked), target


@EVERY_PAGE
def test_every_file_that_is_named_exists(page: Path) -> None:
    for name in re.findall(r"(?<![\w/.<])((?:src|tests|docs|compose|\.ci)/[\w./-]*\w)", page.read_text("utf-8")):
        found = ROOT.glob(f"{name}-*") if re.search(r"/\d+$", name) else [ROOT / name]  # a decision's number is enough
        assert all(path.exists() for path in (list(found) or [ROOT / name])), name


@EVERY_PAGE
def test_every_setting_that_is_named_exists(page: Path) -> None:
    gone = {"JULIA_PKG_SERVER_COMPRESS_LOGS"}  # PkgServer.jl's: the page on migrating says what became of it
    known = set(re.findall(r"^#?(\w+)=", env_example(), re.MULTILINE)) | gone
    assert set(re.findall(r"\b(?:JULIA_PKG_SERVER|PKGSERVER_[A-Z]\w*)(?:_[A-Z]\w*)?", page.read_text("utf-8"))) <= known


@EVERY_PAGE
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {target for line in code_in(page) for target in re.findall(r"\bmake ([a-z][a-z-]*)", line)}
    assert named <= targets


@EVERY_PAGE
def test_every_command_that_is_named_exists_with_its_options(page: Path) -> None:
    for line in code_in(page):
        for name, rest in re.findall(r"(?:^|[ /])pkgserver(?:\.pyz)?((?: [a-z][a-z-]*)?)((?: +--?[a-z].*)?)", line):
            command: click.Command = pkgserver.commands[name.strip()] if name else pkgserver
            known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
            assert set(re.findall(r"(?<=\s)--[a-z-]+", rest)) <= known, line


def test_migrating_page_has_each_of_pkgserver_jls_settings() -> None:
    theirs = [setting.name for setting in all_settings() if setting.name.startswith("JULIA_PKG_SERVER")]
    assert [cells[0].strip("| `") for cells in cells_of("migrating-from-pkgserver-jl.md")] == theirs


def test_operating_page_has_every_alert_and_no_other() -> None:
    rules = (ROOT / "compose/monitoring/prometheus/alerts.yml").read_text("utf-8")
    alerts = set(re.findall(r"- alert: (\w+)", rules))
    assert set(re.findall(r"\bPkgServer[A-Z]\w+", (ROOT / "docs/operating.md").read_text("utf-8"))) == alerts


@pytest.mark.parametrize("name", ["logs.md", "operating.md", "migrating-from-pkgserver-jl.md"])
def test_every_log_event_that_is_named_exists(name: str) -> None:
    """A span of plain words is an event, or its beginning, unless it is a command."""
    said = {text for module in (ROOT / "src").rglob("*.py") for text in strings_of(module)}
    spans = _SPAN.findall(prose_of(ROOT / "docs" / name))
    events = {span for span in spans if re.fullmatch(r"[a-z]+(?:[,:]? [a-z]+)+", span)}
    assert events, name
    for event in {event for event in events if event.split()[0] not in {"make", "pkgserver", "verify"}}:
        assert any(text.startswith(event) for text in said), event


def test_the_list_of_pages_is_whole() -> None:
    """README is where readers begin: it leads to every page, and docs/decisions/ by its folder."""
    linked = re.findall(r"\]\((docs/[\w./-]+)\)", (ROOT / "README.md").read_text("utf-8"))
    assert {str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md")} <= set(linked)


def test_every_module_has_its_place_in_the_table_of_layers() -> None:
    table = (ROOT / "ARCHITECTURE.md").read_text("utf-8").partition("## One request")[0]
    named = re.findall(r"`(\w+)`", table)
    whole = {"demo", "settings"}  # packages of which only the name is there
    modules = {
        path.stem
        for path in (ROOT / "src" / "pkgserver_trio").rglob("*.py")
        if path.name != "__init__.py" and path.parent.name not in whole
    }
    assert modules - set(named) == set()
    assert set(named) - modules == set()

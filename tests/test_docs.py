"""The documentation says what the code does: a setting that is missing or has another default fails here."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from dotenv import dotenv_values

from pkgserver_trio.settings import Setting, Settings, all_settings, effective_texts

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
    assert list(texts) == [setting.name for setting in all_settings()]
    assert Settings.from_mapping({name: text or "" for name, text in texts.items()}) == Settings.from_mapping({})

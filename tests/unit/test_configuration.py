from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from pkgserver_trio.configuration import Resolved, load
from pkgserver_trio.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAME = "PKGSERVER_MAX_DOWNLOADS"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, so that no `.env` of the machine is read."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def error_of(
    env_file: Path | None = None, config_file: Path | None = None, flags: Mapping[str, str] = MappingProxyType({})
) -> str:
    with pytest.raises(SettingsError) as caught:
        load(flags, {}, env_file, config_file)
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    return line


def written(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def from_toml(folder: Path, text: str) -> Resolved:
    return load({}, {}, None, written(folder / "pkgserver.toml", text))


def test_nothing_at_all_is_all_defaults() -> None:
    resolved = load({}, {})
    assert set(resolved.sources.values()) == {"default"}
    assert resolved.settings.max_downloads == 64
    assert resolved.texts[NAME] == "64"
    assert resolved.warnings == ()


@pytest.mark.parametrize(
    ("absent", "source", "value"),
    [
        ([], "flag", 1),
        (["flag"], "environment", 2),
        (["flag", "environment"], "./.env", 3),
        (["flag", "environment", "./.env"], "pkgserver.toml", 4),
        (["flag", "environment", "./.env", "pkgserver.toml"], "default", 64),
    ],
)
def test_flags_beat_the_environment_beats_env_file_beats_config_file(
    folder: Path, absent: list[str], source: str, value: int
) -> None:
    texts = dict.fromkeys(absent, "")
    written(folder / ".env", f"{NAME}={texts.get('./.env', '3')}\n")
    config = written(folder / "pkgserver.toml", f'{NAME} = "{texts.get("pkgserver.toml", "4")}"\n')
    resolved = load(
        {NAME: texts.get("flag", "1")},
        {NAME: texts.get("environment", "2")},
        config_file=config.relative_to(folder),
    )
    assert (resolved.sources[NAME], resolved.settings.max_downloads) == (source, value)


def test_every_source_can_say_something_else(folder: Path) -> None:
    written(folder / ".env", "JULIA_PKG_SERVER_FQDN=pkg.example\n")
    resolved = load({NAME: "7"}, {"PKGSERVER_LOG_FORMAT": "json"})
    assert resolved.settings.public_url == "https://pkg.example"
    assert (resolved.settings.max_downloads, resolved.settings.log_format) == (7, "json")


def test_named_env_file_is_read_instead_of_the_default_one(folder: Path) -> None:
    written(folder / ".env", "this is no line of a .env file\n")
    named = written(folder / "named.env", f"{NAME}=5\n")
    resolved = load({}, {}, named)
    assert (resolved.sources[NAME], resolved.settings.max_downloads) == (str(named), 5)


def test_env_file_may_hold_quotes_comments_exports_and_other_programs_variables(folder: Path) -> None:
    text = f"\ufeff# a comment\nCOMPOSE_PROJECT_NAME=x\nLONELY\n\nexport {NAME}='5'  # five\nPKGSERVER_MAX_CACHE=\n"
    resolved = load({}, {}, written(folder / "named.env", text))
    assert resolved.settings.max_downloads == 5


def test_env_file_never_refers_to_the_environment(folder: Path) -> None:
    named = written(folder / "named.env", "JULIA_PKG_SERVER_STORAGE_ROOT=/data/${HOME}\n")
    assert load({}, {"HOME": "/root"}, named).settings.storage_root == "/data/${HOME}"


def test_env_file_line_that_cannot_be_read_is_an_error_with_its_number(folder: Path) -> None:
    named = written(folder / "named.env", f"{NAME}=5\n\n\nPKGSERVER_MAX_CACHE 5GB\n")
    assert error_of(named) == f"{named}, line 4: expected NAME=value"


def test_misspelt_name_in_an_env_file_is_an_error(folder: Path) -> None:
    named = written(folder / "named.env", "PKGSERVER_MAX_DOWNLOAD=5\n")
    assert error_of(named) == f"{named}: PKGSERVER_MAX_DOWNLOAD is not a setting: did you mean {NAME}?"


def test_misspelt_name_in_the_environment_is_a_warning() -> None:
    resolved = load({}, {"PKGSERVER_MAX_DOWNLOAD": "5", "JULIA_PKG_SERVER_REGISTRY_PREFERENCE": "eager"})
    assert resolved.warnings == (f"PKGSERVER_MAX_DOWNLOAD is not a setting: did you mean {NAME}?",)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("PKGSERVER_MAX_DOWNLOAD", f"flag: PKGSERVER_MAX_DOWNLOAD is not a setting: did you mean {NAME}?"),
        ("OTHER", "flag: 'OTHER' is not a setting"),
    ],
)
def test_flag_that_is_no_setting_is_an_error(name: str, line: str) -> None:
    assert error_of(flags={name: "5"}) == line


def test_wrong_value_is_an_error_that_names_its_source(folder: Path) -> None:
    named = written(folder / "named.env", f"{NAME}=many\n")
    assert error_of(named) == f"{NAME} is 'many', expected a whole number from 1 to 10000 (from: {named})"


def test_wrong_value_that_a_stronger_source_replaces_is_no_error(folder: Path) -> None:
    named = written(folder / "named.env", f"{NAME}=many\n")
    assert load({NAME: "5"}, {}, named).settings.max_downloads == 5


def test_config_file_takes_strings_numbers_booleans_and_lists_of_strings(folder: Path) -> None:
    text = f"""
        {NAME} = 5
        PKGSERVER_CONNECT_SECONDS = 2.5
        PKGSERVER_MAX_CACHE = "1GB"
        JULIA_PKG_SERVER_FLAVORLESS = true
        JULIA_PKG_SERVER_STORAGE_SERVERS = ["https://a", "https://b"]
    """
    settings = from_toml(folder, text).settings
    assert (settings.max_downloads, settings.connect_seconds, settings.max_cache_bytes) == (5, 2.5, 10**9)
    assert settings.flavorless is True
    assert settings.storage_servers == ("https://a", "https://b")


@pytest.mark.parametrize("value", ["[1, 2]", "2026-01-01", "{ a = 1 }", '[["https://a"]]'])
def test_config_value_of_another_kind_is_an_error(folder: Path, value: str) -> None:
    config = written(folder / "pkgserver.toml", f"{NAME} = {value}\n")
    assert error_of(None, config) == (f"{config}: {NAME} has to be a string, a number, a boolean or a list of strings")


def test_config_number_that_is_none_is_refused_like_its_text(folder: Path) -> None:
    config = written(folder / "pkgserver.toml", "PKGSERVER_CONNECT_SECONDS = nan\n")
    assert error_of(None, config).startswith("PKGSERVER_CONNECT_SECONDS is 'nan', expected a number of seconds")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("PKGSERVER_MAX_DOWNLOAD = 5", f"PKGSERVER_MAX_DOWNLOAD is not a setting: did you mean {NAME}?"),
        ("max_downloads = 5", "'max_downloads' is not a setting"),
        (f"[pkgserver]\n{NAME} = 5", "'pkgserver' is not a setting"),
        ('"a\\nb" = 5', r"'a\nb' is not a setting"),
    ],
)
def test_config_key_that_is_no_setting_is_an_error(folder: Path, text: str, line: str) -> None:
    config = written(folder / "pkgserver.toml", text)
    assert error_of(None, config) == f"{config}: {line}"


def test_config_file_that_is_not_toml_is_an_error_with_its_line(folder: Path) -> None:
    config = written(folder / "pkgserver.toml", f"{NAME} = 5\nPKGSERVER_MAX_CACHE = 5GB\n")
    line = error_of(None, config)
    assert line.startswith(f"{config} is not TOML: ")
    assert "at line 2" in line


def test_config_number_with_too_many_digits_for_python_is_an_error(folder: Path) -> None:
    config = written(folder / "pkgserver.toml", f"{NAME} = {'9' * 5000}\n")
    assert error_of(None, config).startswith(f"{config} is not TOML: ")


def test_named_file_that_is_missing_is_an_error(folder: Path) -> None:
    missing = folder / "missing"
    assert error_of(missing) == f"{missing} cannot be read: No such file or directory"
    assert error_of(None, missing) == f"{missing} cannot be read: No such file or directory"


def test_file_that_is_not_utf8_is_an_error(folder: Path) -> None:
    named = folder / "named.env"
    named.write_bytes(b"PKGSERVER_CA_FILE=/\xff\n")
    assert error_of(named) == f"{named} is not UTF-8"

"""Where the texts of the settings come from: flags, the environment, `.env` and a TOML file, in this precedence.

1. A blank text is no text: the next source decides.
2. A name that only looks like a setting is an error in a flag or a file, where only we are meant; it is a warning in
   the environment, which belongs to others too.
3. Values are taken literally: nothing in a file refers to the environment.
"""

from __future__ import annotations

import io
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

# Not `dotenv_values`, which logs a line that it cannot read and goes on without it.
from dotenv.parser import Binding, parse_stream

from pkgserver_trio.settings import (
    Settings,
    SettingsError,
    all_settings,
    effective_texts,
    environment_warnings,
    misnamed,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

Value = TypeVar("Value")

FLAG: Final = "flag"
ENVIRONMENT: Final = "environment"
DEFAULT: Final = "default"
DEFAULT_ENV_FILE: Final = "./.env"


@dataclass(frozen=True, slots=True)
class Resolved:
    """The settings, and for each name its text and where that came from; `warnings` are lines for the operator.

    A source is `flag`, `environment`, `default`, or the name of a file.
    """

    settings: Settings
    texts: Mapping[str, str]
    sources: Mapping[str, str]
    warnings: tuple[str, ...]


def load(
    flags: Mapping[str, str],
    environ: Mapping[str, str],
    env_file: Path | None = None,
    config_file: Path | None = None,
) -> Resolved:
    """Return what `flags`, `environ` and the two files ask for; without `env_file`, `./.env` is read if it exists.

    Raises SettingsError, one line that names the source, for a wrong value, an unknown name or an unreadable file.
    """
    # The weakest first, so that a stronger one replaces its texts.
    layers = (
        (str(config_file), _read_toml(config_file) if config_file else {}),
        (str(env_file or DEFAULT_ENV_FILE), _read_env(env_file) if env_file else _read_default_env()),
        (ENVIRONMENT, environ),
        (FLAG, _only_settings(FLAG, flags)),
    )
    given = {name: (text, source) for source, layer in layers for name, text in layer.items() if text.strip()}
    texts = effective_texts({name: text for name, (text, _) in given.items()})
    sources = {name: given[name][1] if name in given else DEFAULT for name in texts}
    return Resolved(_settings(texts, sources), texts, sources, environment_warnings(environ))


def _settings(texts: Mapping[str, str], sources: Mapping[str, str]) -> Settings:
    try:
        return Settings.from_mapping(texts)
    except SettingsError as error:
        raise SettingsError(f"{error} (from: {sources[error.name]})", error.name) from None


def _read_default_env() -> dict[str, str]:
    path = Path(DEFAULT_ENV_FILE)
    return _read_env(path) if path.exists() else {}


def _read_env(path: Path) -> dict[str, str]:
    """Return the variables of a file in the grammar of `.env`, as compose reads it; it may hold others than ours."""
    texts: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(_read_text(path))):
        if binding.error:
            raise SettingsError(f"{path}, line {_line(binding)}: expected NAME=value")
        if binding.key:  # else a comment
            texts[binding.key] = binding.value or ""
    for line in filter(None, map(misnamed, texts)):
        raise SettingsError(f"{path}: {line}")
    return texts


def _line(binding: Binding) -> int:
    """Return the line that a binding stands on; python-dotenv counts the blank lines before it as its own."""
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")


def _read_toml(path: Path) -> Mapping[str, str]:
    """Return the keys of a TOML file; all of them have to be settings, for the file is ours alone."""
    try:
        values = tomllib.loads(_read_text(path))
    except ValueError as error:  # TOMLDecodeError, which says the line, or a number beyond Python's limit
        raise SettingsError(f"{path} is not TOML: {error}") from None
    return {name: _text(path, name, value) for name, value in _only_settings(str(path), values).items()}


def _text(path: Path, name: str, value: object) -> str:
    """Return a TOML value as the environment would say it."""
    match value:
        case str():
            return value
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case [*items] if all(isinstance(item, str) for item in items):
            return ",".join(map(str, items))
        case _:
            raise SettingsError(f"{path}: {name} has to be a string, a number, a boolean or a list of strings", name)


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")  # some editors put a byte order mark first
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8") from None


def _only_settings(source: str, values: Mapping[str, Value]) -> Mapping[str, Value]:
    """Return `values`, all of whose names are settings."""
    known = {setting.name for setting in all_settings()}
    for name in values:
        if name not in known:
            raise SettingsError(f"{source}: {misnamed(name) or f'{name!r} is not a setting'}")
    return values

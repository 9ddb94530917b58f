"""The command line: `python pkgserver.pyz` serves; its commands look, check and demonstrate.

What a command needs is imported by the command: `--help` and `--version` answer at once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from pkgserver_trio import __version__
from pkgserver_trio.configuration import Resolved, load
from pkgserver_trio.settings import SettingsError, all_settings

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_SHORTHANDS = {
    "listen": "JULIA_PKG_SERVER",
    "storage_root": "JULIA_PKG_SERVER_STORAGE_ROOT",
    "storage_servers": "JULIA_PKG_SERVER_STORAGE_SERVERS",
}


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(version)s")
@click.option("--config", type=_FILE, help="A TOML file with settings; every other source is stronger.")
@click.option("--env-file", type=_FILE, help="A file of NAME=value lines instead of ./.env.")
@click.option("--listen", metavar="HOST:PORT", help="JULIA_PKG_SERVER: where to listen.")
@click.option("--storage-root", metavar="FOLDER", help="JULIA_PKG_SERVER_STORAGE_ROOT: cache and registries.")
@click.option("--storage-servers", metavar="URL,...", help="JULIA_PKG_SERVER_STORAGE_SERVERS: the upstreams.")
@click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="Any setting; can be given several times.")
@click.pass_context
def cli(
    context: click.Context,
    /,
    config: Path | None,
    env_file: Path | None,
    pairs: tuple[str, ...],
    **shorthands: str | None,
) -> None:
    """Serve Julia's registries, packages and artifacts from a cache.

    Settings come from the options here, the environment, ./.env and --config, in this order; `check-config` shows them.
    """
    flags = dict(_pair(text) for text in pairs)
    flags |= {_SHORTHANDS[name]: text for name, text in shorthands.items() if text is not None}
    if context.invoked_subcommand == "demo":
        return  # which has settings of its own
    resolved = _resolve(flags, env_file, config)
    for warning in resolved.warnings:
        click.echo(f"warning: {warning}", err=True)
    context.obj = resolved
    if context.invoked_subcommand is None:
        from pkgserver_trio.main import serve  # noqa: PLC0415 # see the module's docstring

        sys.exit(serve(resolved.settings))


@cli.command("check-config")
@click.pass_obj
def check_config(resolved: Resolved) -> None:
    """Print every setting, its value, and where it came from; secrets masked."""
    for setting in all_settings():
        shown = setting.grammar.mask(resolved.texts[setting.name])
        click.echo(f"{setting.name}={shown}  ({resolved.sources[setting.name]})")


@cli.command()
@click.option("--check", is_flag=True, help="Fetch everything once, verify it, print a table, and exit.")
@click.option("--port", type=click.IntRange(0, 65535), help="Where to listen on 127.0.0.1.  [default: 8000]")
def demo(*, check: bool, port: int | None) -> None:
    """Serve a small sample registry on this machine, with nothing from outside."""
    from pkgserver_trio.demo.run import run  # noqa: PLC0415 # see the module's docstring

    sys.exit(run(check=check, port=port))


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--set")
    return name.strip(), value


def _resolve(flags: dict[str, str], env_file: Path | None, config: Path | None) -> Resolved:
    try:
        return load(flags, os.environ, env_file, config)
    except SettingsError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)

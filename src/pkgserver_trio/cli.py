"""The command line: what was asked for, resolved into settings, handed to the part that does it.

1. Every command returns its exit code; `run` adds those of a wrong setting (2) and of an interruption (130).
2. The server and its libraries are imported by the command that needs them, so that `--help` answers at once.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import click

from pkgserver_trio import __version__
from pkgserver_trio.configuration import Resolved, load
from pkgserver_trio.settings import SettingsError, all_settings
from pkgserver_trio.settings.grammar import LISTEN
from pkgserver_trio.storage.lock_sign import LOCK_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pkgserver_trio.settings import ListenAddress

#: 128 + SIGINT, as shells count.
INTERRUPTED: Final = 130

# --listen, --storage-root and --storage-servers.
_NAMED_OPTIONS: Final = (
    "JULIA_PKG_SERVER",
    "JULIA_PKG_SERVER_STORAGE_ROOT",
    "JULIA_PKG_SERVER_STORAGE_SERVERS",
)
_FILE: Final = click.Path(path_type=Path)


class SettingsRejectedError(click.ClickException):
    """A setting is wrong: one line on standard error, exit code 2."""

    exit_code = 2


def run(arguments: Sequence[str] | None = None) -> int:
    """Do what `arguments` (default: the process's) ask for and return the exit code; see docs/settings.md."""
    try:
        return int(pkgserver.main(arguments, prog_name="pkgserver", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:  # Ctrl-C before the server listens for signals
        return INTERRUPTED


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pkgserver")
@click.option("--config", "config_file", type=_FILE, metavar="FILE", help="A TOML file of settings.")
@click.option("--env-file", type=_FILE, metavar="FILE", help="A file of NAME=value lines, instead of ./.env.")
@click.option("--listen", metavar="HOST:PORT", help="Short for --set JULIA_PKG_SERVER=...")
@click.option("--storage-root", metavar="DIR", help="Short for --set JULIA_PKG_SERVER_STORAGE_ROOT=...")
@click.option("--storage-servers", metavar="URLS", help="Short for --set JULIA_PKG_SERVER_STORAGE_SERVERS=...")
@click.option("--set", "assignments", metavar="NAME=VALUE", multiple=True, help="Any setting; can be repeated.")
@click.pass_context
def pkgserver(
    context: click.Context,
    *,
    config_file: Path | None,
    env_file: Path | None,
    listen: str | None,
    storage_root: str | None,
    storage_servers: str | None,
    assignments: tuple[str, ...],
) -> int:
    """Serve Julia registries, packages and artifacts from a cache that fills itself.

    Without a command, the server starts. Settings come from options, the environment, .env, the --config file and
    their defaults, in this order.
    """
    flags = _assigned(assignments)
    named = zip(_NAMED_OPTIONS, (listen, storage_root, storage_servers), strict=True)
    flags |= {name: text for name, text in named if text is not None}
    context.obj = partial(_resolve, flags, env_file, config_file)
    return _serve(context.obj()) if context.invoked_subcommand is None else 0


@pkgserver.command()
@click.pass_obj
def check_config(resolve: Callable[[], Resolved]) -> int:
    """Print every setting and where it comes from.

    Passwords are masked. A wrong setting, or a file that one names and that cannot be used, ends with exit code 2, as
    it does at the start of the server.
    """
    from pkgserver_trio.mirror.signing import CredentialsChain  # noqa: PLC0415 - rule 2
    from pkgserver_trio.registries.origin_check import checkable, tokens_for  # noqa: PLC0415 - rule 2
    from pkgserver_trio.upstream.http_client import trust  # noqa: PLC0415 - rule 2

    resolved = resolve()
    settings = resolved.settings
    try:
        trust(settings.ca_file)
        tokens_for(checkable(settings.registries).values(), settings.origin_tokens_file)
        if settings.mirror_buckets:
            CredentialsChain(settings.mirror_credentials_file, os.environ)
    except SettingsError as error:
        raise SettingsRejectedError(str(error)) from None
    for setting in all_settings():
        text = setting.grammar.mask(resolved.texts[setting.name])
        click.echo(f"{setting.name}={text}  ({resolved.sources[setting.name]})")
    return 0


@pkgserver.command()
@click.option("--check", is_flag=True, help="Fetch everything once as a client would, verify it, and exit.")
@click.option("--port", type=click.IntRange(0, 65535), help="Where to listen on the loopback interface.")
def demo(*, check: bool, port: int | None) -> int:
    """Serve a small sample registry.

    All of it is on this machine: nothing comes from outside.
    """
    from pkgserver_trio.demo.run import run as run_demo  # noqa: PLC0415 - rule 2

    return run_demo(check=check, port=port)


@pkgserver.command()
@click.option("--repair", is_flag=True, help="Move wrong files to quarantine, and remember the right ones as verified.")
@click.pass_obj
def verify(resolve: Callable[[], Resolved], *, repair: bool) -> int:
    """Hash every file of the cache, and list what is wrong.

    Safe beside a running server. Ends with exit code 1 when something is wrong, repaired or not.
    """
    from pkgserver_trio.verify import verify as verify_cache  # noqa: PLC0415 - rule 2

    return verify_cache(resolve().settings, repair=repair)


@pkgserver.command()
@click.argument("address", metavar="[HOST:PORT]", required=False)
@click.pass_obj
def healthcheck(resolve: Callable[[], Resolved], *, address: str | None) -> int:
    """Tell whether the server at the configured address lives, or the one at HOST:PORT.

    For a container's health check: exit code 0 when it answers within two seconds, else 1. Ours may also have been told
    to end: until its time for that is over, 0.
    """
    from pkgserver_trio.healthcheck import healthcheck as check  # noqa: PLC0415 - rule 2

    if address is not None:
        return check(_parsed_address(address))
    settings = resolve().settings
    return check(settings.listen, Path(settings.storage_root, LOCK_NAME))


def _parsed_address(text: str) -> ListenAddress:
    try:
        return cast("ListenAddress", LISTEN.parse(text))
    except ValueError:
        raise click.BadParameter(f"{text!r}: expected {LISTEN.expected}", param_hint="HOST:PORT") from None


def _serve(resolved: Resolved) -> int:
    from pkgserver_trio.process import serve  # noqa: PLC0415 - rule 2

    return serve(resolved.settings)


def _assigned(assignments: Sequence[str]) -> dict[str, str]:
    """Return what the `--set` options say; of two for one name, the later one counts."""
    for assignment in assignments:
        if "=" not in assignment:
            raise click.BadParameter(f"{assignment!r} is not NAME=VALUE", param_hint="--set")
    return {name: text for name, _, text in (assignment.partition("=") for assignment in assignments)}


def _resolve(flags: dict[str, str], env_file: Path | None, config_file: Path | None) -> Resolved:
    """Load the settings, with their warnings on standard error."""
    try:
        resolved = load(flags, os.environ, env_file, config_file)
    except SettingsError as error:
        raise SettingsRejectedError(str(error)) from None
    for warning in resolved.warnings:
        click.echo(f"Warning: {warning}", err=True)
    return resolved

"""The origin check as a whole: which registries have an origin that can be asked, with which token, by whose client.

Everything that makes the check less than it seems is said once, at the start: it is off, a host cannot be asked, a
token is not used or not kept secret.
"""

from __future__ import annotations

import os
import stat
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import structlog

from pkgserver_trio.credentials import masked
from pkgserver_trio.registries.default_branch import DefaultBranch, OriginVerdict, Outcome
from pkgserver_trio.registries.origin_api import OriginApi
from pkgserver_trio.registries.origins import OriginUrlError, TokensError, parse_origin, parse_tokens
from pkgserver_trio.settings import AllRegistries, SettingsError
from pkgserver_trio.upstream.http_client import http_client, trust

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping

    from pkgserver_trio.registries.origins import Origin
    from pkgserver_trio.settings import RegistryChoice, Settings

__all__ = ["OriginVerdict", "Origins", "Outcome", "open_origins"]

_TOKENS_FILE: Final = "PKGSERVER_ORIGIN_TOKENS_FILE"
_MAX_TOKENS_BYTES: Final = 1 << 20
_READABLE_BY_OTHERS: Final = stat.S_IRGRP | stat.S_IROTH


class Origins:
    """The origins of the registries that are checked, by uuid."""

    def __init__(self, branches: Mapping[str, DefaultBranch]) -> None:
        self._branches = branches

    async def check(self, uuid: str, tree_hash: str) -> OriginVerdict:
        """Tell what the origin of the registry `uuid` says of a new head. Raises nothing."""
        branch = self._branches.get(uuid)
        return OriginVerdict(Outcome.UNCHECKED) if branch is None else await branch.check(tree_hash)


@asynccontextmanager
async def open_origins(
    settings: Settings, *, transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator[Origins]:
    """Open the origins of the configured registries; `transport` replaces the network in tests.

    Nothing is asked before the first check. Raises SettingsError for an origin that names no project, and for tokens
    that cannot be read.
    """
    if settings.origin_check == "off":
        structlog.get_logger().warning("origin check is off: no new registry head is compared with its origin")
        yield Origins({})
        return
    origins = checkable(settings.registries)
    tokens = tokens_for(origins.values(), settings.origin_tokens_file)
    timeout = httpx.Timeout(settings.head_seconds, connect=settings.connect_seconds)
    seconds = settings.connect_seconds + settings.head_seconds + settings.body_seconds
    async with http_client(timeout, trust(settings.ca_file), transport) as client:
        apis: dict[tuple[str, str | None], OriginApi] = {}  # one for each host: its limits are for all projects there
        branches: dict[str, DefaultBranch] = {}
        for uuid, origin in origins.items():
            token = tokens.get(origin)
            api = apis.setdefault((origin.api, token), OriginApi(origin, client, token=token, seconds=seconds))
            branches[uuid] = DefaultBranch(origin, api)
        yield Origins(branches)


def checkable(registries: tuple[RegistryChoice, ...] | AllRegistries) -> dict[str, Origin]:
    """Return the origins that can be asked, by registry. Raises SettingsError."""
    log = structlog.get_logger()
    origins: dict[str, Origin] = {}
    if isinstance(registries, AllRegistries):
        log.warning("new registry heads are not checked: of all registries no origin is known")
        return origins
    for choice in registries:
        if choice.origin_url is None:
            log.info("new heads of this registry are not checked: it has no origin", registry=choice.uuid)
            continue
        try:
            origin = parse_origin(choice.origin_url)
        except OriginUrlError as error:
            raise SettingsError(f"PKGSERVER_REGISTRIES: {error}", "PKGSERVER_REGISTRIES") from None
        if origin is None:
            shown = masked(choice.origin_url)
            log.warning("new heads of this registry are not checked: unknown git host", registry=choice.uuid, url=shown)
        else:
            origins[choice.uuid] = origin
    return origins


def tokens_for(origins: Collection[Origin], file: str | None) -> dict[Origin, str]:
    """Return the token of each origin that has one: the file's, else its URL's. Raises SettingsError."""
    by_host = {} if file is None else _read_tokens(Path(file))
    log = structlog.get_logger()
    unused = sorted(by_host.keys() - {origin.host for origin in origins})
    if unused:
        log.warning("tokens for hosts of no origin", setting=_TOKENS_FILE, hosts=unused)
    tokens: dict[Origin, str] = {}
    for origin in origins:
        token = by_host.get(origin.host, origin.token)
        if token and not origin.is_private:
            log.warning("a token is not sent in the open: give its origin as https", host=origin.host)
        elif token:
            tokens[origin] = token
    return tokens


def _read_tokens(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_TOKENS_BYTES + 1)
            mode = os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise SettingsError(f"{_TOKENS_FILE}: {path} cannot be read: {error.strerror}", _TOKENS_FILE) from None
    if len(raw) > _MAX_TOKENS_BYTES:
        raise SettingsError(f"{_TOKENS_FILE}: {path} is longer than {_MAX_TOKENS_BYTES} bytes", _TOKENS_FILE)
    if mode & _READABLE_BY_OTHERS:
        structlog.get_logger().warning("others can read the tokens: chmod 600", setting=_TOKENS_FILE, file=str(path))
    try:
        return parse_tokens(raw.decode("utf-8", "replace"))  # an error of the decoder's own would hold the tokens
    except TokensError as error:
        raise SettingsError(f"{_TOKENS_FILE}: {path}, {error}", _TOKENS_FILE) from None

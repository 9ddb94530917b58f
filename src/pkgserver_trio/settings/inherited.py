"""PkgServer.jl's eight settings, under the names and with the defaults that its operators know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Final

from pkgserver_trio.settings.grammar import (
    BOOLEAN,
    HOST_NAME,
    LISTEN,
    PATH,
    SHA256,
    URLS,
    ListenAddress,
    or_none,
    seconds,
)
from pkgserver_trio.settings.setting import Setting

_STORAGE_ROOT: Final = "/tmp/pkgserver"  # noqa: S108 - PkgServer.jl's default: where its caches are
_STORAGE_SERVERS: Final = "https://us-east.storage.julialang.org,https://kr.storage.julialang.org"
# Far below the watchdog's patience: a loop that sleeps must never look like one that hangs.
_PERIOD: Final = seconds(0.1, 600)


@dataclass(frozen=True, slots=True, kw_only=True)
class InheritedSettings:
    """The part of `Settings` that a PkgServer.jl would understand too."""

    listen: Annotated[
        ListenAddress,
        Setting(
            "JULIA_PKG_SERVER", LISTEN, "127.0.0.1:8000", "The address to listen on; a scheme before it is ignored."
        ),
    ]
    storage_root: Annotated[
        str,
        Setting("JULIA_PKG_SERVER_STORAGE_ROOT", PATH, _STORAGE_ROOT, "The folder of the cache; one server owns it."),
    ]
    storage_servers: Annotated[
        tuple[str, ...],
        Setting(
            "JULIA_PKG_SERVER_STORAGE_SERVERS",
            URLS,
            _STORAGE_SERVERS,
            "Where resources come from.",
        ),
    ] = field(repr=False)
    logs_dir: Annotated[
        str,
        Setting("JULIA_PKG_SERVER_LOGS_DIR", PATH, "{JULIA_PKG_SERVER_STORAGE_ROOT}/logs", "The folder of the logs."),
    ]
    fqdn: Annotated[
        str,
        Setting(
            "JULIA_PKG_SERVER_FQDN", HOST_NAME, "pkg.julialang.org", "The host name that clients know this server by."
        ),
    ]
    flavorless: Annotated[
        bool,
        Setting(
            "JULIA_PKG_SERVER_FLAVORLESS",
            BOOLEAN,
            "false",
            "Whether the storage servers offer only `/registries`, without flavors.",
        ),
    ]
    registry_update_period_seconds: Annotated[
        float,
        Setting("JULIA_PKG_SERVER_REGISTRY_UPDATE_PERIOD", _PERIOD, "1", "Time between two looks at the registries."),
    ]
    admin_token_sha256: Annotated[
        str | None,
        Setting(
            "JULIA_PKG_SERVER_ADMIN_TOKEN_SHA256",
            or_none(SHA256),
            "none",
            "SHA-256 of the password for `/admin`; none disables it.",
        ),
    ] = field(repr=False)

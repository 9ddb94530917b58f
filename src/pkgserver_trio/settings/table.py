"""Every setting, declared once, beside its field: its name, the grammar of its text, its default and its meaning.

A `Settings` is made from a mapping of names to texts, so a test passes a dict. A blank text is the same as no text:
compose files hand down variables that are not set as empty ones. Nobody else knows a default; the documentation and
`.env.example` are compared with this table by the tests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final, Literal, get_args, get_type_hints

from pkgserver_trio.settings.grammar import (
    NETWORKS,
    PATH,
    PATHS,
    PUBLIC_URL,
    REGISTRIES,
    URLS,
    AllRegistries,
    Network,
    RegistryChoice,
    choice,
    count,
    or_none,
    seconds,
    size,
)
from pkgserver_trio.settings.mirror import MirrorSettings
from pkgserver_trio.settings.setting import Setting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]
OriginCheck = Literal["required", "off"]

_GENERAL: Final = "23338594-aafe-5451-b93e-139f81909106=https://github.com/JuliaRegistries/General"
_REGIONS: Final = "us-west us-east sa eu-central in jp kr sg cn-southeast cn-east cn-northeast au"
_SIBLINGS: Final = ",".join(f"https://{region}.pkg.julialang.org" for region in _REGIONS.split())
_WAIT: Final = seconds(0.1, 3600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(MirrorSettings):
    """What the operator chose: all settings; what can hold a password is left out of the repr."""

    public_url: Annotated[
        str,
        Setting(
            "PKGSERVER_PUBLIC_URL",
            PUBLIC_URL,
            "https://{JULIA_PKG_SERVER_FQDN}",
            "The URL that clients know this server by.",
        ),
    ]
    registries: Annotated[
        tuple[RegistryChoice, ...] | AllRegistries,
        Setting(
            "PKGSERVER_REGISTRIES",
            REGISTRIES,
            _GENERAL,
            "The registries to serve; `*` is all that are listed. One without an origin is not checked against it.",
        ),
    ] = field(repr=False)
    origin_check: Annotated[
        OriginCheck,
        Setting(
            "PKGSERVER_ORIGIN_CHECK",
            choice(*get_args(OriginCheck)),
            "required",
            "Whether a new registry head must be a recent commit at its origin, if it has one that can be asked.",
        ),
    ]
    origin_tokens_file: Annotated[
        str | None,
        Setting(
            "PKGSERVER_ORIGIN_TOKENS_FILE",
            or_none(PATH),
            "none",
            "A file of tokens to read private origins with, lines of `host=token`.",
        ),
    ]
    rollback_after_seconds: Annotated[
        float,
        Setting(
            "PKGSERVER_ROLLBACK_AFTER_SECONDS",
            seconds(1, 864_000),
            "3600",
            "How long all storage servers have to offer an older registry before it is taken back on purpose.",
        ),
    ]
    keep_free_bytes: Annotated[
        int, Setting("PKGSERVER_KEEP_FREE", size(0), "3GiB", "Disk space that the cache leaves free.")
    ]
    max_cache_bytes: Annotated[
        int | None,
        Setting(
            "PKGSERVER_MAX_CACHE",
            or_none(size(1)),
            "none",
            "What the cache may hold; none leaves it to `PKGSERVER_KEEP_FREE`.",
        ),
    ]
    connect_seconds: Annotated[
        float,
        Setting(
            "PKGSERVER_CONNECT_SECONDS", _WAIT, "5", "The longest wait for a storage server to accept a connection."
        ),
    ]
    head_seconds: Annotated[
        float,
        Setting("PKGSERVER_HEAD_SECONDS", _WAIT, "5", "The longest wait for the head of a storage server's response."),
    ]
    body_seconds: Annotated[
        float,
        Setting(
            "PKGSERVER_BODY_SECONDS", _WAIT, "5", "The longest silence in the body of a storage server's response."
        ),
    ]
    negative_seconds: Annotated[
        float,
        Setting(
            "PKGSERVER_NEGATIVE_SECONDS",
            _WAIT,
            "10",
            "How long it is remembered that no storage server has a resource.",
        ),
    ]
    max_downloads: Annotated[
        int, Setting("PKGSERVER_MAX_DOWNLOADS", count(10_000), "64", "Downloads from storage servers at one time.")
    ]
    max_connections: Annotated[
        int, Setting("PKGSERVER_MAX_CONNECTIONS", count(1_000_000), "10000", "Connections of clients at one time.")
    ]
    read_stall_seconds: Annotated[
        float, Setting("PKGSERVER_READ_STALL_SECONDS", _WAIT, "60", "How long a client may take nothing of its answer.")
    ]
    request_head_seconds: Annotated[
        float,
        Setting(
            "PKGSERVER_REQUEST_HEAD_SECONDS", _WAIT, "10", "How long a client may take to send the head of a request."
        ),
    ]
    graceful_seconds: Annotated[
        float, Setting("PKGSERVER_GRACEFUL_SECONDS", _WAIT, "10", "Shutdown: time for answers to finish.")
    ]
    drain_seconds: Annotated[
        float, Setting("PKGSERVER_DRAIN_SECONDS", _WAIT, "10", "Shutdown: time for downloads to finish after that.")
    ]
    max_unpacked_bytes: Annotated[
        int, Setting("PKGSERVER_MAX_UNPACKED", size(1), "64GiB", "What one tarball may unpack to.")
    ]
    max_members: Annotated[
        int,
        Setting(
            "PKGSERVER_MAX_MEMBERS",
            count(1_000_000_000),
            "5000000",
            "Files, folders and links that one tarball may hold.",
        ),
    ]
    trusted_proxies: Annotated[
        tuple[Network, ...],
        Setting(
            "PKGSERVER_TRUSTED_PROXIES",
            or_none(NETWORKS, absent=()),
            "127.0.0.0/8,::1/128",
            "Networks whose word about a client is believed.",
        ),
    ]
    hit_logs: Annotated[
        tuple[str, ...],
        Setting(
            "PKGSERVER_HIT_LOGS",
            or_none(PATHS, absent=()),
            "none",
            "The logs in which nginx writes what it served from the cache.",
        ),
    ]
    log_level: Annotated[
        LogLevel,
        Setting(
            "PKGSERVER_LOG_LEVEL",
            choice(*get_args(LogLevel)),
            "info",
            "The least severe messages to log.",
        ),
    ]
    log_format: Annotated[
        LogFormat,
        Setting("PKGSERVER_LOG_FORMAT", choice(*get_args(LogFormat)), "text", "How a log line is written."),
    ]
    ca_file: Annotated[
        str | None,
        Setting(
            "PKGSERVER_CA_FILE",
            or_none(PATH),
            "none",
            "A file of certificates to trust in storage servers and origins, beside the usual ones.",
        ),
    ]
    siblings: Annotated[
        tuple[str, ...],
        Setting(
            "PKGSERVER_SIBLINGS",
            or_none(URLS, absent=()),
            _SIBLINGS,
            "The package servers that `/meta/siblings` lists.",
        ),
    ] = field(repr=False)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, str]) -> Settings:
        """Return the settings that a mapping of names to texts asks for, ignoring names that are none of ours.

        Raises SettingsError for the first wrong one.
        """
        texts = effective_texts(mapping)
        return cls(**{attribute: setting.parse(texts[setting.name]) for attribute, setting in _declared()})


def all_settings() -> tuple[Setting, ...]:
    """Return every setting, in the order of the documentation."""
    return tuple(setting for _, setting in _declared())


def effective_texts(mapping: Mapping[str, str]) -> dict[str, str]:
    """Return the text of every setting: what `mapping` says, stripped, else the default."""
    texts: dict[str, str] = {}
    for setting in all_settings():
        texts[setting.name] = mapping.get(setting.name, "").strip() or setting.default.format_map(texts)
    return texts


def _declared() -> Iterator[tuple[str, Setting]]:
    """Yield each field of `Settings` with its setting, PkgServer.jl's first."""
    for attribute, hint in get_type_hints(Settings, include_extras=True).items():
        yield attribute, hint.__metadata__[0]

"""The settings of the mirror, as `table` declares the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from pkgserver_trio.settings.buckets import Bucket, parse_buckets, parse_patterns
from pkgserver_trio.settings.grammar import PATH, Grammar, mask_credentials, or_none, seconds, size
from pkgserver_trio.settings.inherited import InheritedSettings
from pkgserver_trio.settings.setting import Setting

_BUCKETS: Final = Grammar(
    "bucket[=url][;ttl=seconds], separated by commas or spaces", parse_buckets, mask=mask_credentials
)
_PATTERNS: Final = Grammar("patterns of keys, separated by commas or spaces", parse_patterns)
_STALE: Final = seconds(0, 31_536_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorSettings(InheritedSettings):
    """PkgServer.jl's settings, and which buckets are mirrored and how."""

    mirror_buckets: Annotated[
        tuple[Bucket, ...],
        Setting(
            "PKGSERVER_MIRROR_BUCKETS",
            or_none(_BUCKETS, absent=()),
            "none",
            "The buckets that `/mirror/<bucket>/<key>` serves; without a URL, a bucket is Amazon's.",
        ),
    ]
    mirror_max_cache_bytes: Annotated[
        int,
        Setting(
            "PKGSERVER_MIRROR_MAX_CACHE", size(1), "20GiB", "What the objects of buckets may take, beside the cache."
        ),
    ]
    mirror_pointers: Annotated[
        tuple[str, ...],
        Setting(
            "PKGSERVER_MIRROR_POINTERS",
            or_none(_PATTERNS, absent=()),
            "bin/versions.json,bin/nightlies.json,*CHANNELVERSION,*CHANNELDBVERSION",
            "Keys that tell what is newest, with `*` for anything: never older than a minute.",
        ),
    ]
    mirror_stale_while_revalidate_seconds: Annotated[
        float,
        Setting(
            "PKGSERVER_MIRROR_STALE_WHILE_REVALIDATE_SECONDS",
            _STALE,
            "3600",
            "How long an object that is no longer fresh is served while its origin is asked, but no pointer.",
        ),
    ]
    mirror_stale_if_error_seconds: Annotated[
        float,
        Setting(
            "PKGSERVER_MIRROR_STALE_IF_ERROR_SECONDS",
            _STALE,
            "604800",
            "How long an object that is no longer fresh is served when its origin fails.",
        ),
    ]
    mirror_credentials_file: Annotated[
        str | None,
        Setting(
            "PKGSERVER_MIRROR_CREDENTIALS_FILE",
            or_none(PATH),
            "none",
            "A file of AWS credentials: a profile for each bucket that has its own, and `default`.",
        ),
    ]

"""The grammar of mirrored buckets, `bucket[=url][;ttl=seconds]`, and of the patterns of pointers. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final
from urllib.parse import urlsplit

#: How long an object is fresh when neither its origin nor the operator says so.
DEFAULT_TTL_SECONDS: Final = 3600
MAX_TTL_SECONDS: Final = 31_536_000
MAX_BUCKETS: Final = 100

_SEPARATOR = re.compile(r"[,\s]+")
_NAME = re.compile(r"(?=.{3,63}\Z)[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")
# Plain characters only: it is the prefix of what is asked for, and stands in logs and in a configuration of nginx.
_URL = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?(?:/[a-z0-9._~/-]*)?", re.IGNORECASE)
_TTL = re.compile(r"ttl=([0-9]{1,9})")
_PATTERN = re.compile(r"[A-Za-z0-9._~!$'()*+:@/%-]{1,256}")


class WrongItemError(ValueError):
    """One item of a list is wrong; the text names it and says why."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket to mirror, the URL that its keys are appended to, and how long an object of it is fresh by default."""

    name: str
    url: str
    ttl_seconds: int


def parse_buckets(text: str) -> tuple[Bucket, ...]:
    """Return the buckets of a list, separated by commas or blanks. Raises WrongItemError."""
    buckets = tuple(_bucket(item) for item in _SEPARATOR.split(text) if item)
    if not buckets:
        raise WrongItemError("there is no bucket in it")
    if len(buckets) > MAX_BUCKETS:
        raise WrongItemError(f"there are more than {MAX_BUCKETS} buckets in it")
    names = [bucket.name for bucket in buckets]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise WrongItemError(f"{twice} is there twice")
    return buckets


def _bucket(item: str) -> Bucket:
    told, *options = item.split(";")
    name, separator, url = told.partition("=")
    if not _NAME.fullmatch(name):
        raise WrongItemError(f"{_shown(name)!r} is no name of a bucket (3 to 63 of a-z 0-9 . -)")
    if separator:
        url = _checked_url(name, url)
    ttls = [_ttl(name, option) for option in options]
    if len(ttls) > 1:
        raise WrongItemError(f"{name} has two ttls")
    return Bucket(name, url or f"https://{name}.s3.amazonaws.com", *(ttls or [DEFAULT_TTL_SECONDS]))


def _checked_url(name: str, url: str) -> str:
    if "@" in url:
        raise WrongItemError(f"the URL of {name} has credentials: they belong into PKGSERVER_MIRROR_CREDENTIALS_FILE")
    path = url.partition("://")[2]
    if not _URL.fullmatch(url) or {".", ".."} & set(path.split("/")[1:]) or "//" in path:
        raise WrongItemError(f"the URL of {name} is not http[s]://host[:port][/prefix]")
    try:
        wrong = urlsplit(url).port == 0
    except ValueError:
        wrong = True
    if wrong:
        raise WrongItemError(f"the URL of {name} has a port that is none")
    return url.rstrip("/")


def _ttl(name: str, option: str) -> int:
    match = _TTL.fullmatch(option)
    if match is None:
        raise WrongItemError(f"{name} has the option {_shown(option)!r}, and there is only ttl=seconds")
    if int(match[1]) > MAX_TTL_SECONDS:
        raise WrongItemError(f"the ttl of {name} is more than {MAX_TTL_SECONDS} seconds")
    return int(match[1])


def _shown(text: str) -> str:
    """Return a text that may hold a secret in the wrong place, cut."""
    return text if len(text) <= 64 and "@" not in text else "..."  # noqa: PLR2004


def parse_patterns(text: str) -> tuple[str, ...]:
    """Return shell patterns of keys, comma or blank separated. Raises WrongItemError."""
    patterns = tuple(dict.fromkeys(item for item in _SEPARATOR.split(text) if item))
    for pattern in patterns:
        if not _PATTERN.fullmatch(pattern):
            raise WrongItemError(f"{pattern[:64]!r} is no pattern of keys, in which * stands for anything")
    if not patterns:
        raise WrongItemError("there is no pattern in it")
    return patterns


def is_pointer(key: str, patterns: tuple[str, ...]) -> bool:
    """Tell whether a key, not decoded, is one that any of the patterns means."""
    return any(fnmatchcase(key, pattern) for pattern in patterns)

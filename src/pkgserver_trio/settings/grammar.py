"""How the text of each kind of value is read: one `Grammar` per kind, each a pure function with bounds.

A parser gets stripped text that is not empty, and raises ValueError for whatever its grammar does not expect.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

#: The word for "not at all", where that is a choice.
NONE: Final = "none"

_DECIMAL = re.compile(r"[0-9]{1,18}(\.[0-9]{1,9})?")
_SIZE = re.compile(r"([0-9]{1,18})\s*([a-z]*)", re.IGNORECASE)
_LISTEN = re.compile(r"(?:https?://)?(?:\[([0-9a-f:.]+(?:%\w+)?)\]|([a-z0-9._-]+)):([0-9]{1,5})/?", re.IGNORECASE)
_HOST_NAME = re.compile(r"(?=.{1,253}(?::|$))[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?", re.IGNORECASE)
# What RFC 3986 allows in a URL, less `?`, `#` (these URLs are prefixes of others) and `,` (which separates them here).
_URL = re.compile(r"https?://[a-z0-9._~:/\[\]@!$&'()*+;=%-]+", re.IGNORECASE)
# The kind of git host that an origin is, where its name does not tell (registries/origins.py).
_KIND = re.compile(r"(?:github|gitlab|gitea)\+", re.IGNORECASE)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Surrogates are how Python shows bytes of the environment that are no UTF-8; they could not be logged.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
# Not `credentials.masked`, which is told where one URL begins and ends: in a wrong list nobody knows, as passwords
# may hold commas. This also finds credentials in what is no URL at all, so that a typing error does not print them.
_CREDENTIALS = re.compile(r"(?:(?<=://)|^|(?<=[,=]))(?:(?!https?://).)*?@(?=[^@,]*(?:,|$))", re.DOTALL)
_QUERY = re.compile(r"([?#])[^,]*")

_MAX_PORT = 65535

Network: TypeAlias = IPv4Network | IPv6Network


class ListenAddress(NamedTuple):
    """Where to listen: a host name or address (IPv6 without brackets) and a port; 0 lets the system choose one."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class RegistryChoice:
    """A registry to serve, and where its heads are checked (`registries.origins.parse_origin`; None: nowhere)."""

    uuid: str
    origin_url: str | None


class AllRegistries(Enum):
    """The choice of every registry that a storage server lists."""

    ALL = "*"


@dataclass(frozen=True, slots=True)
class Grammar:
    """A kind of value: `parse` reads its text or raises ValueError, `expected` tells an operator what it takes.

    `unit` is for the documentation; `mask` makes a text fit to be shown.
    """

    expected: str
    parse: Callable[[str], object]
    unit: str = ""
    mask: Callable[[str], str] = str


def seconds(low: float, high: float) -> Grammar:
    """Return the grammar of a duration from `low` to `high` seconds."""

    def parse(text: str) -> float:
        if not _DECIMAL.fullmatch(text) or not low <= float(text) <= high:
            raise ValueError
        return float(text)

    return Grammar(f"a number of seconds from {low:g} to {high:g}", parse, "seconds")


def count(high: int) -> Grammar:
    """Return the grammar of a whole number from 1 to `high`."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", text) or not 1 <= int(text) <= high:
            raise ValueError
        return int(text)

    return Grammar(f"a whole number from 1 to {high}", parse)


def size(low: int) -> Grammar:
    """Return the grammar of a size of `low` bytes to 1 EiB: powers of 1000 (`500MB`), of 1024 (`3GiB`), or bytes."""

    def parse(text: str) -> int:
        match = _SIZE.fullmatch(text)
        factor = _size_factor(match[2].lower()) if match else None
        if match is None or factor is None or not low <= int(match[1]) * factor <= 1024**6:
            raise ValueError
        return int(match[1]) * factor

    return Grammar(f"a size such as 500MB, 3GiB or plain bytes, from {low} to 1024PiB", parse, "bytes")


def _size_factor(unit: str) -> int | None:
    """Return how many bytes a unit is; single letters are unknown, since nobody agrees on whether `G` is 1024**3."""
    for power, prefix in enumerate("kmgtp", start=1):
        if unit in (f"{prefix}b", f"{prefix}ib"):
            return int((1024 if "i" in unit else 1000) ** power)
    return 1 if unit in ("", "b") else None


def choice(*options: str) -> Grammar:
    """Return the grammar of one of `options`, in either case."""

    def parse(text: str) -> str:
        if text.lower() not in options:
            raise ValueError
        return text.lower()

    return Grammar(f"one of {', '.join(options)}", parse)


def or_none(grammar: Grammar, absent: object = None) -> Grammar:
    """Return `grammar`, extended by the word `none`, which is read as `absent`."""

    def parse(text: str) -> object:
        return absent if text.lower() == NONE else grammar.parse(text)

    return replace(grammar, expected=f"{grammar.expected}, or {NONE}", parse=parse)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "1", "yes", "on", "false", "0", "no", "off"):
        raise ValueError
    return text.lower() in ("true", "1", "yes", "on")


def _listen(text: str) -> ListenAddress:
    match = _LISTEN.fullmatch(text)
    if match is None or int(match[3]) > _MAX_PORT:
        raise ValueError
    if match[1]:
        IPv6Address(match[1])
    elif not match[2].strip("0123456789."):
        IPv4Address(match[2])  # a host name cannot look like this, so a mistyped address is not left to the resolver
    return ListenAddress(match[1] or match[2], int(match[3]))


def _host_name(text: str) -> str:
    if not _HOST_NAME.fullmatch(text):
        raise ValueError
    return text.lower()


def _path(text: str) -> str:
    if _UNPRINTABLE.search(text):
        raise ValueError
    return re.sub(r"/+", "/", text).rstrip("/") or "/"


def _paths(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(_path, _items(text))))


def _url(text: str) -> str:
    parts = urlsplit(text)
    if not _URL.fullmatch(text) or not parts.hostname or parts.port == 0:  # `.port` itself raises for a wrong one
        raise ValueError
    return text.rstrip("/")


def _public_url(text: str) -> str:
    if "@" in text:  # it is told to every client
        raise ValueError
    return _url(text)


def _items(text: str) -> tuple[str, ...]:
    items = tuple(item.strip(" \t") for item in text.split(",") if item.strip(" \t"))
    if not items:
        raise ValueError
    return items


def _urls(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(_url, _items(text))))  # a server named twice would be asked twice


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(map(ip_network, _items(text)))


def _sha256(text: str) -> str:
    if not _SHA256.fullmatch(text.lower()):
        raise ValueError
    return text.lower()


def _registries(text: str) -> tuple[RegistryChoice, ...] | AllRegistries:
    if text == AllRegistries.ALL.value:
        return AllRegistries.ALL
    choices = tuple(map(_registry, _items(text)))
    if len({choice.uuid for choice in choices}) < len(choices):
        raise ValueError  # which origin would be meant?
    return choices


def _registry(item: str) -> RegistryChoice:
    uuid, separator, origin = item.partition("=")
    if not _UUID.fullmatch(uuid.lower()):
        raise ValueError
    return RegistryChoice(uuid.lower(), _origin_url(origin) if separator else None)


def _origin_url(text: str) -> str:
    kind = _KIND.match(text)
    return kind[0].lower() + _url(text[kind.end() :]) if kind else _url(text)


def _mask_secret(text: str) -> str:
    return text if text.lower() == NONE else "***"


def mask_credentials(text: str) -> str:
    """Return a list of URLs as it can be shown."""
    return _QUERY.sub(r"\1***", _CREDENTIALS.sub("***@", text))


BOOLEAN: Final = Grammar("true or false", _boolean)
LISTEN: Final = Grammar("host:port, with an IPv6 address in brackets and a port from 0 to 65535", _listen)
HOST_NAME: Final = Grammar("a host name", _host_name, mask=mask_credentials)
PATH: Final = Grammar("a printable path", _path)
PATHS: Final = Grammar("printable paths, comma separated", _paths)
PUBLIC_URL: Final = Grammar("an http or https URL without credentials or query", _public_url, mask=mask_credentials)
URLS: Final = Grammar("http or https URLs without a query, comma separated", _urls, mask=mask_credentials)
NETWORKS: Final = Grammar("networks such as 10.0.0.0/8 or fd00::/8, comma separated", _networks)
SHA256: Final = Grammar("64 hexadecimal digits", _sha256, mask=_mask_secret)
REGISTRIES: Final = Grammar(
    "uuid or uuid=origin-url, comma separated, each uuid once, or *", _registries, mask=mask_credentials
)

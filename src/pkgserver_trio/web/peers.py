"""Who is asking: the address by which a client's share of the server is counted.

A proxy in a trusted network is believed about whom it asks for; anybody else speaks for himself only. Pure.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pkgserver_trio.settings.grammar import Network

Address: TypeAlias = IPv4Address | IPv6Address
Headers: TypeAlias = "Iterable[tuple[bytes, bytes]]"

#: An address as proxies write it: some add a port, and to IPv6 the brackets that go with it.
_WRITTEN = re.compile(r"\[([^\]]*)\](?::[0-9]+)?|([0-9.]+)(?::[0-9]+)?|([0-9A-Fa-f:.]+)")
#: What one client surely owns of IPv6: counted by single addresses, it would be as many peers as it likes.
_CLIENT_PREFIX = 64


def peer_of(address: str | None, headers: Headers, trusted: Collection[Network]) -> str:
    """Return the client's address, IPv6 as its /64; empty when the socket's `address` is none.

    `X-Forwarded-For` is read from its end, as long as the hop that wrote an entry is in a `trusted` network;
    `X-Real-IP` counts only where there is no `X-Forwarded-For`. `headers` have lower-case names.
    """
    hop = _parse(address or "")
    if hop is None:
        return ""
    for claim in reversed(_claims(headers)):
        claimed = _parse(claim)
        if claimed is None or not any(hop in network for network in trusted):
            break
        hop = claimed
    return str(hop if isinstance(hop, IPv4Address) else IPv6Network((int(hop), _CLIENT_PREFIX), strict=False))


def is_trusted(address: str | None, trusted: Collection[Network]) -> bool:
    """Tell whether the socket's `address` is in a trusted network, whatever any header says."""
    hop = _parse(address or "")
    return hop is not None and any(hop in network for network in trusted)


def _claims(headers: Headers) -> list[str]:
    """Return what the headers say of the hops, the nearest last."""
    said = [(name, value.decode("latin-1")) for name, value in headers]
    forwarded = ",".join(value for name, value in said if name == b"x-forwarded-for")
    return forwarded.split(",") if forwarded else [value for name, value in said if name == b"x-real-ip"][-1:]


def _parse(text: str) -> Address | None:
    match = _WRITTEN.fullmatch(text.partition("%")[0].strip())  # a zone is this machine's name for a cable
    try:
        address = ip_address(next(filter(None, match.groups()), "")) if match else None
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address

"""Who is asking: the address by which a client's share of the server is counted.

A proxy in a trusted network is believed about whom it asks for; anybody else speaks for himself only. Pure.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from pkgserver_trio.web.forwarded import MAX_HOPS, forwarded_for

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from pkgserver_trio.settings.grammar import Network

Address: TypeAlias = IPv4Address | IPv6Address
Headers: TypeAlias = "Iterable[tuple[bytes, bytes]]"

#: An address as proxies write it: some add a port, and to IPv6 the brackets that go with it.
_WRITTEN = re.compile(r"\[([^\]]*)\](?::[0-9]+)?|([0-9.]+)(?::[0-9]+)?|([0-9A-Fa-f:.]+)")
#: What one client surely owns of IPv6: counted by single addresses, it would be as many peers as it likes.
_CLIENT_PREFIX = 64


def peer_of(address: str | None, headers: Headers, trusted: Collection[Network]) -> str:
    """Return the client's address, IPv6 as its /64; empty when the socket's `address` is none.

    `X-Forwarded-For`, `Forwarded` and `X-Real-IP` are each read from the end, as long as the hop that wrote an entry is
    in a `trusted` network. Where they lead to different clients, a proxy has passed on what a client made up: then none
    is believed. `headers` have lower-case names.
    """
    hop = _parse(address or "")
    if hop is None:
        return ""
    claims = _claims(headers) if _is_in(hop, trusted) else ()  # reading takes time, which is not for everybody to take
    ends = [_follow(hop, hops, trusted) for hops in claims]
    clients = {end.hop for end in ends if end.told} or {end.hop for end in ends[:1]}
    client = clients.pop() if len(clients) == 1 else hop
    return str(client if isinstance(client, IPv4Address) else IPv6Network((int(client), _CLIENT_PREFIX), strict=False))


def is_trusted(address: str | None, trusted: Collection[Network]) -> bool:
    """Tell whether the socket's `address` is in a trusted network, whatever any header says."""
    hop = _parse(address or "")
    return hop is not None and _is_in(hop, trusted)


def _is_in(address: Address, networks: Collection[Network]) -> bool:
    return any(address in network for network in networks)


class _End(NamedTuple):
    """The farthest `hop` that a header is believed about; `told` unless that is only one more trusted proxy."""

    hop: Address
    told: bool


def _follow(hop: Address, claims: Sequence[str], trusted: Collection[Network]) -> _End:
    for claim in reversed(claims):
        claimed = _parse(claim)
        if claimed is None or not _is_in(hop, trusted):
            return _End(hop, told=True)
        hop = claimed
    return _End(hop, told=not _is_in(hop, trusted))


def _claims(headers: Headers) -> Iterator[list[str]]:
    """Yield what each header that is there says of the hops, the nearest last; first the headers that can name many."""
    said: dict[bytes, list[str]] = {}
    for name, value in headers:
        said.setdefault(name, []).append(value.decode("latin-1"))
    lines = ",".join(said.get(b"x-forwarded-for", ()))
    yield from filter(
        None,
        (
            lines.split(",") if lines else [],
            [claim for line in said.get(b"forwarded", ())[-MAX_HOPS:] for claim in forwarded_for(line)],
            said.get(b"x-real-ip", [])[-1:],
        ),
    )


def _parse(text: str) -> Address | None:
    match = _WRITTEN.fullmatch(text.partition("%")[0].strip())  # a zone is this machine's name for a cable
    try:
        address = ip_address(next(filter(None, match.groups()), "")) if match else None
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address

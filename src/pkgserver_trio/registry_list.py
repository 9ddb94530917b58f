"""The text at ``/registries``, read and written, and the choice of a flavor for one client."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from pkgserver_trio.resource import Kind, Resource

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

FLAVORS = ("conservative", "eager")
MAX_LISTING_BYTES = 1 << 20  # some 10,000 registries; a body that is longer is no listing


def listing_name(flavor: str) -> str:
    """Return the name of a flavor's listing, in ``static/`` and in URLs; the flavorless list has the empty name."""
    return f"registries.{flavor}" if flavor else "registries"


def flavor_label(flavor: str) -> str:
    """Return what a flavor is called in logs, metrics, reports and the ledger."""
    return flavor or "flavorless"


@dataclass(frozen=True, slots=True)
class Listing:
    """What a server lists: for each registry's uuid, the tree hash of its head.

    ``malformed`` counts the lines that were dropped: those that name no registry, and all lines of a uuid that is
    listed more than once, since nothing says which of them is meant.
    """

    heads: Mapping[str, str]
    malformed: int


def parse_listing(body: bytes) -> Listing:
    """Read lines of ``/registry/{uuid}/{hash}``; LF or CRLF, blank lines allowed. Never raises.

    The caller bounds ``body`` by ``MAX_LISTING_BYTES``.
    """
    hashes: defaultdict[str, list[str]] = defaultdict(list)
    malformed = 0
    # Every byte is a Latin-1 character, so decoding cannot fail; bytes split at CR and LF only.
    for line in (raw.decode("latin-1") for raw in body.splitlines() if raw.strip()):
        resource = Resource.parse(line)
        if resource and resource.kind is Kind.REGISTRY and resource.uuid:
            hashes[resource.uuid].append(resource.tree_hash)
        else:
            malformed += 1
    heads = {uuid: found[0] for uuid, found in hashes.items() if len(found) == 1}
    malformed += sum(len(found) for uuid, found in hashes.items() if uuid not in heads)
    return Listing(MappingProxyType(heads), malformed)


def render_listing(heads: Mapping[str, str]) -> bytes:
    """Write one line for each registry (uuid to tree hash), sorted by uuid, each ended by LF."""
    return "".join(f"/registry/{uuid}/{heads[uuid]}\n" for uuid in sorted(heads)).encode("ascii")


def chosen_flavor(preference: str | None, ci_variables: str | None, served: Collection[str]) -> str:
    """Return the flavor of the registries for a client, from two of its headers; it is one of ``served`` if any is.

    ``preference`` is ``Julia-Registry-Preference``, a comma-separated list of which the first that is served wins.
    Else, ``eager`` on a CI machine, as ``is_ci`` has it of ``ci_variables``. Else ``conservative``. When that is not
    served, the first by name of those that are.
    """
    for name in (preference or "").split(","):
        if name.strip() in served:
            return name.strip()
    wanted = "eager" if is_ci(ci_variables or "") else "conservative"
    return wanted if wanted in served else min(served, default=wanted)


def is_ci(variables: str) -> bool:
    """Tell whether a client is a CI machine: one item of ``Julia-CI-Variables``, ``NAME=state;...``, is true (t)."""
    return any(item.strip().endswith("=t") for item in variables.split(";"))

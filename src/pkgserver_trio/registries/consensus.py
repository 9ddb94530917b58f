"""Which of several registry heads is newest, when storage servers disagree.

The rule of the protocol page: of two hashes, the one that fewer servers know is newer, since servers keep what they
once had, and a new registry reaches them one after the other.

1. Only servers that answered for *both* hashes compare them; a server that failed to answer has no say.
2. Each pair is compared by other servers, so the comparisons can contradict each other in a circle. Newer is
   therefore taken transitively, and hashes in one circle count as tied: what is left is a strict partial order.
3. Ties go to the published hash, else to the later ``Last-Modified``, else to the smaller hash.
4. Servers are only counted: neither their names nor their order can matter.
"""

from __future__ import annotations

from enum import Enum
from itertools import permutations, product
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping


class Knowledge(Enum):
    """What a storage server knows of a hash; UNKNOWN means that it failed to answer."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


def ranked(
    candidates: Iterable[str],
    knowledge: Mapping[str, Mapping[str, Knowledge]],
    *,
    published: str | None,
    last_modified: Mapping[str, float | None],
) -> list[str]:
    """Return the candidates (tree hashes), newest first; the caller takes the first that it can hold and verify.

    ``knowledge`` is, for each server, what it knows of each hash; what is missing is UNKNOWN. A server that proposed a
    hash knows it: the caller says so. ``published`` is the hash served now, ``last_modified`` the Unix seconds that
    came with a hash, if any.
    """

    def preference(tree_hash: str) -> tuple[bool, float, str]:
        seconds = last_modified.get(tree_hash)
        return tree_hash != published, inf if seconds is None else -seconds, tree_hash

    preferred = sorted(set(candidates), key=preference)
    return _newest_first(preferred, _strictly_newer(preferred, knowledge.values()))


def strictly_newer(
    hashes: Iterable[str], knowledge: Mapping[str, Mapping[str, Knowledge]]
) -> frozenset[tuple[str, str]]:
    """Return the pairs of hashes whose first is newer than their second by what servers know, whatever breaks ties."""
    return _strictly_newer(sorted(set(hashes)), knowledge.values())


def _newest_first(preferred: Iterable[str], newer: Collection[tuple[str, str]]) -> list[str]:
    """Return the hashes so that none comes after one that it is newer than, and else in the order of ``preferred``."""
    remaining = list(preferred)
    order: list[str] = []
    while remaining:
        newest_left = next(one for one in remaining if not any((other, one) in newer for other in remaining))
        remaining.remove(newest_left)
        order.append(newest_left)
    return order


def _strictly_newer(
    hashes: Collection[str], answers: Collection[Mapping[str, Knowledge]]
) -> frozenset[tuple[str, str]]:
    """Return the pairs whose first is newer than their second, directly or through others, and not also older."""
    newer = {pair for pair in permutations(hashes, 2) if _is_known_to_fewer(*pair, answers)}
    # The order of the product matters: every chain through the first `via` is closed before the next one is looked at.
    for via, one, other in product(hashes, repeat=3):
        if (one, via) in newer and (via, other) in newer:
            newer.add((one, other))
    return frozenset((one, other) for one, other in newer if (other, one) not in newer)


def _is_known_to_fewer(one: str, other: str, answers: Iterable[Mapping[str, Knowledge]]) -> bool:
    balance = 0
    for answer in answers:
        of_one, of_other = answer.get(one, Knowledge.UNKNOWN), answer.get(other, Knowledge.UNKNOWN)
        if Knowledge.UNKNOWN not in (of_one, of_other):
            balance += (of_one is Knowledge.YES) - (of_other is Knowledge.YES)
    return balance < 0

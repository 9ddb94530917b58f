"""What is fuzzed: each parser with the seeds of its inputs, and a check of what it makes of any bytes.

A check holds the parser against a slow reader of the same, and against its contract: which exceptions it may raise.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from tests.fuzz.mutations import mutate, mutate_tarball
from tests.unit import slow_parsers
from tests.unit.oddities.members import MEMBERS
from tests.unit.oddities.sparse import SPARSE
from tests.unit.slow_reader import UnreadableError, gunzip, read_tree
from tests.unit.tarballs import END, hashes_of
from tests.unit.trees import hashes_of_tree

from pkgserver_trio.byte_range import UnsatisfiableRangeError, parse_range
from pkgserver_trio.registry_list import parse_listing
from pkgserver_trio.resource import Resource, parse_artifact_toml_path
from pkgserver_trio.tarballs.tree_hash import TarballError, TarLimits, TreeHashes
from pkgserver_trio.validators import is_not_modified, parse_http_date, range_applies

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LIMITS: Final = TarLimits(max_unpacked_bytes=1 << 22, max_members=2000)
OF_A_LIMIT: Final = ("larger than", "more than", "longer than", "too large")

UUID, HASH = "23338594-aafe-5451-b93e-139f81909106", "0123456789abcdef0123456789abcdef01234567"
PATHS: Final = tuple(
    path.encode()
    for path in (f"/registry/{UUID}/{HASH}", f"/package/{UUID}/{HASH}", f"/artifact/{HASH}", f"/artifact/{HASH}/Foo")
)
PATH_WORDS: Final = (b"/", b"//", b"..", b"%2f", b"?", b"\n", b"\0", b"A", b"-", "\u0660".encode(), *PATHS)
RANGES: Final = (
    b"10 bytes=2-5",
    b"10 bytes=2-",
    b"10 bytes=-3",
    b"0 bytes=0-0",
    b"99999999999 BYTES= 1 - 2 ",
    b"5 \tbytes=9-1\t",
)
RANGE_WORDS: Final = (
    b"-",
    b",",
    b" ",
    b"=",
    b"bytes=",
    b"9" * 18,
    b"9" * 19,
    b"\t",
    b"\n",
    b"+1",
    b"1_0",
    "\u0660\u017f".encode(),
)
LISTINGS: Final = (
    b"\n".join(PATHS),
    PATHS[0] + b"\r\n" + PATHS[0].replace(b"2", b"3") + b"\r\n",
    PATHS[0] + b"\n" + PATHS[0],
)
LISTING_WORDS: Final = (b"\n", b"\r", b"\r\n", b"\x0b", b"\x85", b"\xff", b" ", b"\0", *PATH_WORDS)
DATES: Final = (
    b"Sun, 06 Nov 1994 08:49:37 GMT",
    b"Sunday, 06-Nov-94 08:49:37 GMT",
    b"Sun Nov  6 08:49:37 1994",
    b'W/"a-b", "c", *',
)
DATE_WORDS: Final = (
    b",",
    b":",
    b" ",
    b"-",
    b"+9999",
    b"(",
    b")",
    b'"',
    b"\\",
    b"GMT",
    b"99999999999999999999",
    "\u0660".encode(),
)


class FindingError(Exception):
    """A parser did something that it never does."""


def check_tarball(packed: bytes) -> None:
    random = Random(packed)  # noqa: S311 - no secret
    cuts = [random.randint(0, len(packed)) for _ in range(random.randint(0, 9))]
    try:
        hashes: TreeHashes | str = hashes_of(packed, cuts=cuts, limits=LIMITS)
    except TarballError as error:
        hashes = str(error)
    expect(isinstance(hashes, TreeHashes) or (len(hashes) < 800 and hashes.isprintable()), f"unfit to print: {hashes}")
    if isinstance(hashes, str) and any(limit in hashes for limit in OF_A_LIMIT):
        return  # which the slow reader does not know
    try:
        slow: TreeHashes | str = hashes_of_tree(read_tree(gunzip(packed)))
    except UnreadableError as error:
        slow = str(error)
    expect(hashes == slow or (isinstance(hashes, str) and isinstance(slow, str)), f"{hashes}, slowly: {slow}")


def check_range(line: bytes) -> None:
    size_text, _, header = line.decode("utf-8", "replace").partition(" ")
    size = int(size_text[:12]) if size_text[:12].isdecimal() else 10
    try:
        parsed = parse_range(header, size)
        found = parsed if parsed is None else range(parsed.start, parsed.stop)
    except UnsatisfiableRangeError:
        found = "unsatisfiable"  # type: ignore[assignment]  # as the slow one says it
    expect(found == slow_parsers.chosen_positions(header, size), f"{header!r} of {size}: {found}")


def check_path(raw: bytes) -> None:
    path = raw.decode("utf-8", "surrogateescape")
    parsed = Resource.parse(path)
    found = parsed and (str(parsed.kind), parsed.uuid, parsed.tree_hash)
    expect(found == slow_parsers.names(path), f"{path!r}: {found}")
    expect(
        parsed is None or (parsed.path == path and Resource.unpack(parsed.pack()) == parsed), f"no round trip: {path!r}"
    )
    toml = parse_artifact_toml_path(path)
    expect(toml is None or f"{toml[0].path}/{toml[1]}" == path, f"no round trip: {path!r}")


def check_listing(body: bytes) -> None:
    listing = parse_listing(body)
    expect((dict(listing.heads), listing.malformed) == slow_parsers.listed(body), f"{body!r}: {listing}")


def check_validator(raw: bytes) -> None:
    text = raw.decode("utf-8", "surrogateescape")
    seconds = parse_http_date(text)
    expect(seconds is None or isinstance(seconds, int), f"{text!r}: {seconds}")
    unchanged = is_not_modified(etag='"a-b"', mtime_seconds=9, if_none_match=text, if_modified_since=text)
    expect(not unchanged or "*" in text or '"a-b"' in text, f"{text!r} is not modified")
    expect(
        not range_applies(text, etag='"a-b"', mtime_seconds=-1) or '"a-b"' in text or seconds == -1, f"{text!r} applies"
    )


def expect(condition: object, finding: str) -> None:
    if not condition:
        raise FindingError(finding)


@dataclass(frozen=True, slots=True)
class Target:
    """A parser: what makes an input of one that is right, and what checks it."""

    check: Callable[[bytes], None]
    seeds: Sequence[bytes]
    words: Sequence[bytes] = ()

    def case(self, random: Random) -> bytes:
        seed = random.choice(self.seeds)
        return mutate(random, seed, self.seeds, self.words) if self.words else mutate_tarball(random, seed, self.seeds)


ARCHIVES: Final = tuple(oddity.members + END for oddity in (*MEMBERS.values(), *SPARSE.values()))
TARGETS: Final = {
    "tarball": Target(check_tarball, ARCHIVES),
    "range": Target(check_range, RANGES, RANGE_WORDS),
    "path": Target(check_path, PATHS, PATH_WORDS),
    "listing": Target(check_listing, LISTINGS, LISTING_WORDS),
    "validator": Target(check_validator, DATES, DATE_WORDS),
}

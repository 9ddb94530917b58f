"""What archivers have written over the decades, held against git, the definition and a second reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.unit.oddities import sparse
from tests.unit.oddities.members import MEMBERS, Oddity
from tests.unit.oddities.packing import HEADERS, UNPACKABLE, packed_with
from tests.unit.slow_reader import read_tree
from tests.unit.tarballs import BLOCK, END, extension, file, gzipped, hardlink, hashes_of, hashes_of_members, header
from tests.unit.trees import File, hashes_of_tree

from pkgserver_trio.tarballs.inflate import Inflater, load_library
from pkgserver_trio.tarballs.tree_hash import TarballError, TarLimits

if TYPE_CHECKING:
    from tests.unit.trees import Git

ODDITIES = {**MEMBERS, **{f"sparse, {name}": oddity for name, oddity in sparse.SPARSE.items()}}


@pytest.mark.parametrize("name", ODDITIES)
def test_an_odd_tarball_has_the_hash_of_the_tree_it_unpacks_to(git: Git, name: str) -> None:
    oddity = ODDITIES[name]
    hashes = hashes_of_members(oddity.members)
    assert hashes == hashes_of_tree(oddity.tree)
    assert hashes.skip_empty == git.tree_hash(oddity.tree)


@pytest.mark.parametrize("name", ODDITIES)
def test_it_has_that_hash_byte_by_byte_too(name: str) -> None:
    packed = gzipped(ODDITIES[name].members + END)
    assert hashes_of(packed, cuts=range(len(packed))) == hashes_of_tree(ODDITIES[name].tree)


@pytest.mark.parametrize("name", ODDITIES)
def test_the_slow_reader_unpacks_it_to_that_tree(name: str) -> None:
    assert read_tree(ODDITIES[name].members + END) == ODDITIES[name].tree


@pytest.mark.parametrize("name", sparse.UNREADABLE)
def test_a_sparse_file_that_cannot_be_right_is_refused_and_the_reason_named(name: str) -> None:
    members, complaint = sparse.UNREADABLE[name]
    with pytest.raises(TarballError, match=complaint):
        hashes_of_members(members)


def test_a_sparse_file_is_no_way_around_the_limit_of_unpacked_bytes() -> None:
    limits = TarLimits(max_unpacked_bytes=8999, max_members=9)
    with pytest.raises(TarballError, match="alone is larger than 8999 bytes"):
        hashes_of_members(sparse.old(((9000, b""),), 9000), limits=limits)


def test_holes_are_limited_however_much_may_be_unpacked() -> None:
    half, more = 1 << 29, (1 << 29) + 1
    members = sparse.old(((half, b""),), half) + sparse.old(((more, b""),), more, name=b"g")
    with pytest.raises(TarballError, match="b'g' is a sparse file, and there is more of them than 1 GiB"):
        hashes_of_members(members, limits=TarLimits(max_unpacked_bytes=1 << 40, max_members=9))


@pytest.mark.parametrize("zero_bytes", [0, BLOCK, 2 * BLOCK, 20 * BLOCK, 2 * BLOCK + 7, 1 << 20])
def test_an_archive_may_end_with_any_number_of_zeros(zero_bytes: int) -> None:
    oddity = Oddity(file(b"f", b"x"), {"f": File(b"x")})
    assert hashes_of(gzipped(oddity.members + bytes(zero_bytes))) == hashes_of_tree(oddity.tree)


@pytest.mark.parametrize("zero_bytes", [1, BLOCK - 1])
def test_less_than_a_block_of_zeros_is_no_end(zero_bytes: int) -> None:
    with pytest.raises(TarballError, match="truncated"):
        hashes_of(gzipped(file(b"f", b"x") + bytes(zero_bytes)))


@pytest.mark.parametrize("library", ["isal.isal_zlib", "zlib"])
@pytest.mark.parametrize("name", HEADERS)
def test_every_way_to_write_gzip_is_read(name: str, library: str) -> None:
    oddity = Oddity(file(b"f", b"x" * 5000), {"f": File(b"x" * 5000)})
    packed = packed_with(oddity.members + END, HEADERS[name])
    expected = hashes_of_tree(oddity.tree)
    for cuts in ((), range(len(packed))):
        assert hashes_of(packed, cuts=cuts, inflater=Inflater(load_library(library))) == expected


@pytest.mark.parametrize("library", ["isal.isal_zlib", "zlib"])
@pytest.mark.parametrize("name", UNPACKABLE)
def test_what_is_not_packed_with_gzip_is_refused(name: str, library: str) -> None:
    with pytest.raises(TarballError, match="the gzip stream is damaged"):
        hashes_of(UNPACKABLE[name], inflater=Inflater(load_library(library)))


@pytest.mark.parametrize(
    "members",
    [
        sparse.old(((1 << 31, b""),), 1 << 31),
        file(b"f", b"x") + extension(b"L", b"n" * 1000) + file(b"f"),
        hardlink(b"h", b"t"),
        header(b"f", kind=b"3"),
    ],
)
def test_a_long_name_is_not_repeated_in_full(members: bytes) -> None:
    long = extension(b"L", b"n" * 1000 + b"\0") + extension(b"K", b"t" * 1000 + b"\0")
    with pytest.raises(TarballError) as caught:
        hashes_of_members(long + members)
    assert len(str(caught.value)) < 300

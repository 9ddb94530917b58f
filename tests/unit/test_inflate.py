from __future__ import annotations

import gzip
import random
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.tarballs import pieces

from pkgserver_trio.tarballs.inflate import (
    INFLATE_LIBRARY,
    PIECE_BYTES,
    Inflater,
    TarballError,
    load_library,
    require_zeros,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pkgserver_trio.tarballs.inflate import InflateLibrary

CONTENT = random.Random(1).randbytes(3000) + b"so it goes " * 300  # noqa: S311 -- test content, not a secret
PACKED = gzip.compress(CONTENT, mtime=0)


@pytest.fixture(params=["isal.isal_zlib", "zlib"])
def library(request: pytest.FixtureRequest) -> InflateLibrary:
    if request.param != "zlib":
        pytest.importorskip(request.param, reason="isal is optional, and not installed")
    return load_library(request.param)


def inflate(library: InflateLibrary, packed: bytes, cuts: Iterable[int] = ()) -> bytes:
    inflater = Inflater(library)
    output = [unpacked for piece in pieces(packed, cuts) for unpacked in inflater.feed(piece)]
    inflater.finish()
    assert all(0 < len(unpacked) <= PIECE_BYTES for unpacked in output)
    return b"".join(output)


def test_the_standard_library_is_used_where_the_faster_one_is_not_installed() -> None:
    assert load_library("no_such_library") is zlib


def test_the_library_in_use_has_a_name_for_the_logs() -> None:
    assert (load_library() is zlib) == (INFLATE_LIBRARY == "zlib")
    assert INFLATE_LIBRARY in {"isal", "zlib"}


def test_a_member_is_decompressed(library: InflateLibrary) -> None:
    assert inflate(library, PACKED) == CONTENT


def test_byte_by_byte_is_the_same(library: InflateLibrary) -> None:
    assert inflate(library, PACKED + bytes(3), range(len(PACKED) + 3)) == CONTENT


@pytest.mark.parametrize("parts", [(b"one", b"two"), (b"", b"two", b""), (CONTENT, CONTENT, CONTENT)])
def test_members_in_a_row_are_one_stream(library: InflateLibrary, parts: tuple[bytes, ...]) -> None:
    packed = b"".join(gzip.compress(part) for part in parts)
    assert inflate(library, packed) == b"".join(parts)


@given(
    parts=st.lists(st.binary(max_size=300), min_size=1, max_size=4),
    padding=st.integers(0, 20),
    cuts=st.lists(st.integers(0, 600), max_size=8),
)
@settings(max_examples=60, deadline=None)
def test_neither_cuts_nor_padding_matter(parts: list[bytes], padding: int, cuts: list[int]) -> None:
    packed = b"".join(gzip.compress(part) for part in parts) + bytes(padding)
    assert inflate(load_library(), packed, cuts) == inflate(zlib, packed, cuts) == b"".join(parts)


@pytest.mark.parametrize("size", [PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 20 * PIECE_BYTES])
def test_a_bomb_comes_in_pieces_of_bounded_size(library: InflateLibrary, size: int) -> None:
    assert inflate(library, gzip.compress(bytes(size))) == bytes(size)


def test_output_is_made_only_when_it_is_asked_for(library: InflateLibrary) -> None:
    bomb = gzip.compress(bytes(20 * PIECE_BYTES))
    unpacked = Inflater(library).feed(bomb)
    assert len(next(unpacked)) <= PIECE_BYTES


def test_much_input_at_once_is_taken(library: InflateLibrary) -> None:
    content = random.Random(2).randbytes(300_000)  # noqa: S311 -- test content, not a secret
    assert inflate(library, gzip.compress(content)) == content


def test_a_stream_cut_anywhere_is_truncated(library: InflateLibrary) -> None:
    packed = gzip.compress(b"short")
    for length in range(len(packed)):
        with pytest.raises(TarballError, match="truncated"):
            inflate(library, packed[:length])


def test_a_later_member_that_is_cut_is_noticed(library: InflateLibrary) -> None:
    with pytest.raises(TarballError, match="truncated"):
        inflate(library, PACKED + PACKED[:-1])


@pytest.mark.parametrize("offset", range(-8, 0))
def test_a_wrong_checksum_or_length_is_damage(library: InflateLibrary, offset: int) -> None:
    damaged = bytearray(PACKED)
    damaged[offset] ^= 1
    with pytest.raises(TarballError, match="damaged"):
        inflate(library, bytes(damaged))


@pytest.mark.parametrize(
    ("packed", "complaint"),
    [
        (b"<html>not found</html>", "damaged"),
        (bytes(20), "damaged"),
        (zlib.compress(b"no gzip"), "damaged"),
        (PACKED + b"garbage, and more of it", "damaged"),
        (PACKED + b"\0garbage", "something after the gzip stream"),
        (PACKED + bytes(9) + PACKED, "something after the gzip stream"),
    ],
)
def test_what_is_no_gzip_stream_is_refused(library: InflateLibrary, packed: bytes, complaint: str) -> None:
    for step in (len(packed), 1):
        with pytest.raises(TarballError, match=complaint):
            inflate(library, packed, range(0, len(packed), step))


def test_zeros_are_required_and_the_message_says_where() -> None:
    require_zeros(b"", after="the end")
    require_zeros(memoryview(bytes(9)), after="the end")
    with pytest.raises(TarballError, match="something after the end"):
        require_zeros(b"\0\0x\0", after="the end")

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.slow_parsers import chosen_positions

from pkgserver_trio.byte_range import ByteRange, UnsatisfiableRangeError, is_content_range, parse_range, size_by_rest


def selected(header: str, body: bytes) -> bytes:
    """Return what the range selects, empty when it is unsatisfiable."""
    try:
        chosen = parse_range(header, len(body))
    except UnsatisfiableRangeError:
        return b""
    assert chosen is not None
    assert 0 <= chosen.start < chosen.stop <= len(body)
    assert len(chosen) == len(body[chosen.start : chosen.stop])
    return body[chosen.start : chosen.stop]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", ByteRange(0, 1)),
        ("bytes=2-5", ByteRange(2, 6)),
        ("bytes=2-", ByteRange(2, 10)),
        ("bytes=2-99", ByteRange(2, 10)),
        ("bytes=-3", ByteRange(7, 10)),
        ("bytes=-5000", ByteRange(0, 10)),
        ("BYTES=9-9", ByteRange(9, 10)),
        (" bytes= 2 - 5\t", ByteRange(2, 6)),
        ("bytes=2-999999999999999999", ByteRange(2, 10)),
    ],
)
def test_a_single_range_is_clamped_to_the_size(header: str, expected: ByteRange) -> None:
    assert parse_range(header, 10) == expected


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=5-4", "bytes=99-3", "bytes=-0"])
def test_a_range_that_selects_nothing_is_unsatisfiable(header: str) -> None:
    with pytest.raises(UnsatisfiableRangeError):
        parse_range(header, 10)


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-1"])
def test_no_range_of_an_empty_resource_is_satisfiable(header: str) -> None:
    with pytest.raises(UnsatisfiableRangeError):
        parse_range(header, 0)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes =1-2",
        "bytes=1",
        "bytes=--1",
        "bytes=1--2",
        "bytes=+1-2",
        "bytes=1_0-2_0",
        "bytes=0x1-2",
        "bytes=1-2\n",
        "bytes=0-1,4-5",
        "bytes=0-1,",
        "octets=0-1",
        "xbytes=0-1",
        "bytes=\u0660-\u0661",
        "bytes=0000000000000000001-2",
        f"bytes=0-{'9' * 5000}",
    ],
)
def test_a_header_that_is_no_single_byte_range_is_ignored(header: str | None) -> None:
    assert parse_range(header, 10) is None


@given(body=st.binary(max_size=100), first=st.integers(0, 120), last=st.integers(0, 120))
def test_a_closed_range_equals_the_slice(body: bytes, first: int, last: int) -> None:
    assert selected(f"bytes={first}-{last}", body) == body[first : last + 1]


@given(body=st.binary(max_size=100), first=st.integers(0, 120))
def test_an_open_range_equals_the_slice(body: bytes, first: int) -> None:
    assert selected(f"bytes={first}-", body) == body[first:]


@given(body=st.binary(max_size=100), length=st.integers(0, 120))
def test_a_suffix_range_equals_the_slice(body: bytes, length: int) -> None:
    assert selected(f"bytes=-{length}", body) == (body[-length:] if length else b"")


@given(header=st.one_of(st.text(), st.from_regex(r"\s?[bB]ytes\s?=[\d, -]*")), size=st.integers(0, 2**40))
def test_any_header_is_answered_or_unsatisfiable(header: str, size: int) -> None:
    try:
        chosen = parse_range(header, size)
    except UnsatisfiableRangeError:
        return
    assert chosen is None or 0 <= chosen.start < chosen.stop <= size


parts = st.sampled_from(["bytes", "BYTES", "=", "-", ",", " ", "\t", "0", "7", "12", "9" * 18, "9" * 19, "+", "\u0660"])


@given(head=st.sampled_from(["bytes=", "", " Bytes= "]), tail=st.lists(parts, max_size=6), size=st.integers(0, 2**62))
def test_a_header_means_what_the_slow_parser_says(head: str, tail: list[str], size: int) -> None:
    header = head + "".join(tail)
    expected = chosen_positions(header, size)
    if expected == "unsatisfiable":
        with pytest.raises(UnsatisfiableRangeError):
            parse_range(header, size)
    else:
        assert parse_range(header, size) == (None if expected is None else ByteRange(expected.start, expected.stop))


def test_content_range_counts_the_last_byte_in() -> None:
    assert ByteRange(2, 6).content_range(10) == "bytes 2-5/10"


@pytest.mark.parametrize("header", ["bytes 4-9/10", "Bytes 4-9/10", " bytes 4-9/10\t", "bytes 0004-9/010"])
def test_a_partial_answer_that_ends_with_the_resource_is_the_rest_of_it(header: str) -> None:
    assert size_by_rest(header, 4) == 10


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes 3-9/10",
        "bytes 5-9/10",
        "bytes 4-8/10",
        "bytes 4-10/10",
        "bytes 4-3/4",
        "bytes 4-9/*",
        "bytes */10",
        "bytes=4-9/10",
        "bytes 4-9",
        "bytes 4 - 9/10",
        "bytes -4-9/10",
        "bytes 4-9/10, bytes 4-9/10",
        "items 4-9/10",
        "bytes \u0664-9/10",
        f"bytes 4-{'9' * 19}/1{'0' * 19}",
    ],
)
def test_any_other_partial_answer_is_not(header: str | None) -> None:
    assert size_by_rest(header, 4) is None


@given(asked=st.integers(0, 9), start=st.integers(0, 9), last=st.integers(0, 9), size=st.integers(0, 9))
def test_the_rest_is_the_slice_from_what_was_asked(asked: int, start: int, last: int, size: int) -> None:
    body = bytes(range(size))
    sent = body[start : last + 1] if last < size else None
    is_rest = start == asked and bool(sent) and sent == body[asked:]
    assert size_by_rest(f"bytes {start}-{last}/{size}", asked) == (size if is_rest else None)


@given(header=st.one_of(st.none(), st.text(), st.from_regex(r"bytes [0-9*-]*/[0-9*]*")), start=st.integers(0, 2**62))
def test_any_partial_answer_can_be_asked_about(header: str | None, start: int) -> None:
    assert size_by_rest(header, start) is None or str(start) in str(header)


@pytest.mark.parametrize("text", ["bytes 0-4/10", "Bytes 0-4/*", "bytes */10"])
def test_what_an_origin_says_of_a_part_is_a_content_range(text: str) -> None:
    assert is_content_range(text)


@pytest.mark.parametrize(
    "text", ["", "bytes 0-4", "items 0-4/10", "bytes 0-4/10 ", "bytes 0-4/10\r\nX: y", "bytes */" + "1" * 99]
)
def test_what_else_an_origin_says_there_is_none(text: str) -> None:
    assert not is_content_range(text)

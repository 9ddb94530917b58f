from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.slow_parsers import listed

from pkgserver_trio.registry_list import MAX_LISTING_BYTES, Listing, chosen_flavor, parse_listing, render_listing

GENERAL = "23338594-aafe-5451-b93e-139f81909106"
OTHER = "00000000-1111-2222-3333-444444444444"
HASH_A, HASH_B = "a" * 40, "b" * 40
LINE_A, LINE_B = f"/registry/{GENERAL}/{HASH_A}", f"/registry/{OTHER}/{HASH_B}"

heads_of_registries = st.dictionaries(st.uuids().map(str), st.binary(min_size=20, max_size=20).map(bytes.hex))
BOTH = {GENERAL: HASH_A, OTHER: HASH_B}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Listing({}, 0)),
        ("\n \r\n\n", Listing({}, 0)),
        (f"{LINE_A}\n{LINE_B}\n", Listing(BOTH, 0)),
        (f"{LINE_A}\n{LINE_B}", Listing(BOTH, 0)),
        (f"\r\n{LINE_A}\r\n\r\n{LINE_B}\r\n", Listing(BOTH, 0)),
        (f"{LINE_A} \n{LINE_B}\n", Listing({OTHER: HASH_B}, 1)),
        (f"{LINE_A}/\n/package/{GENERAL}/{HASH_A}\n/artifact/{HASH_A}\n<html>\n{LINE_B}", Listing({OTHER: HASH_B}, 4)),
        (f"{LINE_A}\x85{LINE_B}\n", Listing({}, 1)),
        (f"{LINE_A.upper()}\n", Listing({}, 1)),
    ],
)
def test_each_line_names_a_registry_or_is_counted(text: str, expected: Listing) -> None:
    assert parse_listing(text.encode("latin-1")) == expected


def test_a_uuid_that_is_listed_twice_is_dropped_and_its_lines_counted() -> None:
    again = f"/registry/{GENERAL}/{HASH_B}"
    assert parse_listing(f"{LINE_A}\n{again}\n{LINE_B}\n".encode()) == Listing({OTHER: HASH_B}, 2)


@given(
    st.one_of(st.binary(), st.lists(st.sampled_from([LINE_A, LINE_B, "x", ""])).map(lambda x: "\n".join(x).encode()))
)
def test_any_bytes_are_read_and_every_line_is_accounted_for(body: bytes) -> None:
    listing = parse_listing(body)
    assert len(listing.heads) + listing.malformed == sum(1 for line in body.splitlines() if line.strip())


lines = st.sampled_from([LINE_A, LINE_B, LINE_A.replace("a", "c"), f"/package/{GENERAL}/{HASH_A}", "<html>", " ", ""])
ends = st.sampled_from(["\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x85"])


@given(st.lists(st.tuples(lines, ends), max_size=6))
def test_a_listing_means_what_the_slow_parser_says(rows: list[tuple[str, str]]) -> None:
    body = "".join(line + end for line, end in rows).encode("latin-1")
    listing = parse_listing(body)
    assert (listing.heads, listing.malformed) == listed(body)


@given(st.lists(lines, max_size=6).flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(rows))))
def test_the_order_of_the_lines_never_matters(orders: tuple[list[str], list[str]]) -> None:
    one, other = ("\n".join(order).encode() for order in orders)
    assert parse_listing(one) == parse_listing(other)


@pytest.mark.parametrize("line", [b"\n", b"x\n", b"\0", f"{LINE_A}\n".encode()])
def test_the_largest_listing_takes_a_few_times_its_size(line: bytes) -> None:
    body = (line * MAX_LISTING_BYTES)[:MAX_LISTING_BYTES]
    tracemalloc.start()
    try:
        assert parse_listing(body).heads == {}
        assert tracemalloc.get_traced_memory()[1] < 100 * MAX_LISTING_BYTES
    finally:
        tracemalloc.stop()


@given(heads_of_registries)
def test_what_is_written_is_read_back(heads: dict[str, str]) -> None:
    assert parse_listing(render_listing(heads)) == Listing(heads, 0)


def test_a_listing_is_sorted_by_uuid_and_every_line_is_ended() -> None:
    assert render_listing(BOTH) == f"{LINE_B}\n{LINE_A}\n".encode()
    assert render_listing({}) == b""


def test_a_listing_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        parse_listing(LINE_A.encode()).heads[OTHER] = HASH_B  # type: ignore[index]  # that is what is tested


def test_a_listing_may_be_one_mebibyte() -> None:
    assert MAX_LISTING_BYTES == 1024 * 1024


@pytest.mark.parametrize(
    ("preference", "ci_variables", "expected"),
    [
        (None, None, "conservative"),
        ("", "", "conservative"),
        ("eager", None, "eager"),
        ("conservative", "CI=t", "conservative"),
        ("nightly, eager,conservative", None, "eager"),
        (" conservative , eager", None, "conservative"),
        ("nightly", "CI=t", "eager"),
        ("EAGER", None, "conservative"),
        (None, "APPVEYOR=n;CI=t;TRAVIS=n", "eager"),
        (None, "APPVEYOR=n; CI=t ", "eager"),
        (None, "APPVEYOR=n;CI=f;CIRRUS=o", "conservative"),
        (None, "CI=true", "conservative"),
        (None, "t", "conservative"),
    ],
)
def test_a_client_gets_its_preference_else_eager_on_ci(
    preference: str | None, ci_variables: str | None, expected: str
) -> None:
    assert chosen_flavor(preference, ci_variables, {"eager", "conservative"}) == expected


@pytest.mark.parametrize(
    ("served", "ci_variables", "expected"),
    [
        (["eager"], None, "eager"),
        (["conservative"], "CI=t", "conservative"),
        (["nightly", "beta"], None, "beta"),
        ([], None, "conservative"),
        ([], "CI=t", "eager"),
    ],
)
def test_a_flavor_that_is_served_is_better_than_one_that_is_not(
    served: list[str], ci_variables: str | None, expected: str
) -> None:
    assert chosen_flavor(None, ci_variables, served) == expected


@given(
    st.none() | st.text(), st.none() | st.text(), st.sets(st.sampled_from(["eager", "conservative", "x"]), min_size=1)
)
def test_no_header_can_name_a_flavor_that_is_not_served(
    preference: str | None, ci_variables: str | None, served: set[str]
) -> None:
    assert chosen_flavor(preference, ci_variables, served) in served

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgserver_trio.validators import entity_tag, http_date, is_not_modified, parse_http_date, range_applies

MTIME = 784111777
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
EARLIER = "Sun, 06 Nov 1994 08:49:36 GMT"
LATER = "Sun, 06 Nov 1994 08:49:38 GMT"
ETAG = '"2ebc98a1-5dc"'


def test_entity_tag_is_the_one_of_nginx() -> None:
    assert entity_tag(MTIME, 1500) == ETAG


def test_http_date_is_an_imf_fixdate() -> None:
    assert http_date(MTIME) == DATE


@given(st.integers(0, 253402300799))
def test_a_date_survives_the_round_trip(seconds: int) -> None:
    assert parse_http_date(http_date(seconds)) == seconds


@pytest.mark.parametrize("text", [DATE, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"])
def test_all_three_forms_of_a_date_are_read(text: str) -> None:
    assert parse_http_date(text) == MTIME


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "784111777",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 25:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 +999999",
        "06 Nov 99999999999999999999 08:49:37 GMT",
        "Nov 06 ( 08:49:37 99999999999999999999",
    ],
)
def test_what_is_no_date_is_none(text: str) -> None:
    assert parse_http_date(text) is None


@given(st.text(alphabet='SunNov 0189:,-+()"\\GMT', max_size=40))
def test_reading_a_date_never_raises(text: str) -> None:
    parse_http_date(text)


moments = st.datetimes(datetime(1970, 1, 1), datetime(2068, 12, 31)).map(  # noqa: DTZ001 - the next step says UTC
    lambda moment: moment.replace(microsecond=0, tzinfo=UTC)
)


@given(moments)
def test_the_three_forms_of_a_date_mean_the_same(moment: datetime) -> None:
    forms = ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y")
    assert {parse_http_date(moment.strftime(form)) for form in forms} == {int(moment.timestamp())}


tags = st.builds('{}"{}"'.format, st.sampled_from(["", "W/"]), st.text("ab-0", max_size=3))


@given(ours=tags, theirs=st.lists(tags, min_size=1, max_size=4), comma=st.sampled_from([",", ", ", " ,\t"]))
def test_a_tag_matches_when_it_is_in_the_list_weak_or_not(ours: str, theirs: list[str], comma: str) -> None:
    among = ours.removeprefix("W/") in {tag.removeprefix("W/") for tag in theirs}
    assert (status(etag=ours, if_none_match=comma.join(theirs)) == 304) == among


@given(st.text() | st.lists(tags | st.just(DATE) | st.text(max_size=2)).map("".join))
def test_any_conditional_header_is_answered(text: str) -> None:
    assert status(if_none_match=text) == 200 or ETAG in text or text.strip(" \t") == "*"
    assert status(if_modified_since=text) == 200 or parse_http_date(text) == MTIME
    assert not range_applies(text, etag=ETAG, mtime_seconds=MTIME) or ETAG in text or parse_http_date(text) == MTIME


def status(*, etag: str | None = ETAG, if_none_match: str | None = None, if_modified_since: str | None = None) -> int:
    """Answer as a server would: 304 or 200."""
    unchanged = is_not_modified(
        etag=etag, mtime_seconds=MTIME, if_none_match=if_none_match, if_modified_since=if_modified_since
    )
    return 304 if unchanged else 200


@pytest.mark.parametrize(
    ("if_none_match", "expected"),
    [
        (ETAG, 304),
        (f"W/{ETAG}", 304),
        (f'"other", {ETAG}', 304),
        (f'"other",W/{ETAG} , "more"', 304),
        (f"{ETAG}, *", 304),
        ("*", 304),
        (" * ", 304),
        ('"other"', 200),
        (f'"other", {ETAG}x', 200),
        (f'"other", x{ETAG}', 200),
        (ETAG.strip('"'), 200),
        (f"w/{ETAG}", 200),
        ('"other", *', 200),
        ("", 200),
    ],
)
def test_if_none_match_compares_each_tag_weakly(if_none_match: str, expected: int) -> None:
    assert status(if_none_match=if_none_match) == expected


def test_a_weak_tag_of_our_own_matches_weakly() -> None:
    assert status(etag='W/"a"', if_none_match='"a"') == 304


@pytest.mark.parametrize(("if_none_match", "expected"), [("*", 304), (ETAG, 200), ("None", 200)])
def test_without_a_tag_only_the_star_matches(if_none_match: str, expected: int) -> None:
    assert status(etag=None, if_none_match=if_none_match, if_modified_since=DATE) == expected


@pytest.mark.parametrize(
    ("if_modified_since", "expected"),
    [(DATE, 304), ("Sun Nov  6 08:49:37 1994", 304), (EARLIER, 200), (LATER, 200), ("soon", 200), (None, 200)],
)
def test_if_modified_since_must_be_exact(if_modified_since: str | None, expected: int) -> None:
    assert status(if_modified_since=if_modified_since) == expected


@pytest.mark.parametrize(
    ("if_none_match", "if_modified_since", "expected"),
    [(ETAG, LATER, 304), (ETAG, "soon", 304), ('"other"', DATE, 200)],
)
def test_if_none_match_wins_over_if_modified_since(if_none_match: str, if_modified_since: str, expected: int) -> None:
    assert status(if_none_match=if_none_match, if_modified_since=if_modified_since) == expected


@pytest.mark.parametrize("if_range", [None, ETAG, f" {ETAG}", DATE, "Sun Nov  6 08:49:37 1994"])
def test_a_range_applies_without_if_range_or_with_the_very_tag_or_date(if_range: str | None) -> None:
    assert range_applies(if_range, etag=ETAG, mtime_seconds=MTIME)


@pytest.mark.parametrize("if_range", [f"W/{ETAG}", '"other"', f"{ETAG}, {ETAG}", "*", EARLIER, LATER, ""])
def test_a_range_is_ignored_when_if_range_names_something_else(if_range: str) -> None:
    assert not range_applies(if_range, etag=ETAG, mtime_seconds=MTIME)


def test_a_weak_tag_never_allows_a_range() -> None:
    assert not range_applies('W/"a"', etag='W/"a"', mtime_seconds=MTIME)


def test_without_a_tag_no_tag_allows_a_range() -> None:
    assert not range_applies(ETAG, etag=None, mtime_seconds=MTIME)

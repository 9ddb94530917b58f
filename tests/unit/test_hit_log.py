from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgserver_trio.hits.lines import Hit, parse_hits
from pkgserver_trio.resource import TARBALLS, Kind, Resource

HASH = "0123456789abcdef0123456789abcdef01234567"
UUID = "23338594-aafe-5451-b93e-139f81909106"
ARTIFACT = Resource(Kind.ARTIFACT, HASH)
PATH = f"/artifact/{HASH}"
DIGITS = st.sampled_from("0123456789abcdef")
RESOURCES = st.builds(
    lambda kind, digits: Resource(kind, digits, None if kind is Kind.ARTIFACT else UUID),
    st.sampled_from(TARBALLS),
    st.text(DIGITS, min_size=40, max_size=40),
)


def hits(line: str) -> list[Hit]:
    return parse_hits(line.encode("latin-1") + b"\n").hits


def escaped(path: str) -> str:
    """Write a path as nginx does by default."""
    return "".join(
        character if " " <= character <= "~" and character not in '"\\' else f"\\x{ord(character):02X}"
        for character in path
    )


@given(RESOURCES, st.integers(0, 10**18 - 1), st.integers(0, 10**15 - 1), st.sampled_from([200, 206, 304]))
def test_a_hit_is_read_as_it_was_written(resource: Resource, size: int, milliseconds: int, status: int) -> None:
    seconds, rest = divmod(milliseconds, 1000)
    line = f"{seconds}.{rest:03} {status} {size} GET {resource.path}"
    assert hits(line) == [Hit(resource, size, milliseconds * 10**6)]


@pytest.mark.parametrize(
    "line",
    [
        f"1700000000.123 200 5 HEAD {PATH}",
        f"1700000000.123 416 5 GET {PATH}",
        f"1700000000.123 404 5 GET {PATH}",
        f"1700000000.123 200 5 GET {PATH}/name",
        f"1700000000.123 200 5 GET {PATH}.zst",
        f"1700000000.123 200 5 GET {PATH} ",
        f"1700000000.123 200 5 GET {PATH}\r",
        f"1700000000.123 200 5 GET {PATH}\\x0A",
        f"1700000000.123 200 5 GET /{PATH}",
        f"1700000000.123 200 5 GET {PATH.upper()}",
        "1700000000.123 200 5 GET /registries",
        "1700000000.123 400 5 - -",
    ],
)
def test_what_is_no_hit_is_passed_over(line: str) -> None:
    harvest = parse_hits(line.encode() + b"\n")
    assert (harvest.hits, harvest.others, harvest.garbage) == ([], 1, [])


@pytest.mark.parametrize(
    "line",
    [
        "",
        "\0" * 500,
        PATH,
        f"GET {PATH}",
        f" 1700000000.123 200 5 GET {PATH}",
        f"1700000000.123  200 5 GET {PATH}",
        f"1700000000 200 5 GET {PATH}",
        f"1700000000.123 200 - GET {PATH}",
        f"1700000000.123 200 -5 GET {PATH}",
        f"1700000000.123 20 5 GET {PATH}",
        f"1700000000.123 200 {'9' * 19} GET {PATH}",
        f"{'9' * 13}.123 200 5 GET {PATH}",
        f"\xb9.123 200 5 GET {PATH}",
        "1700000000.123 200 5 GET ",
        f'192.0.2.1 - - [01/Jan/2026:00:00:00 +0000] "GET {PATH} HTTP/1.1" 200 5 "-" "Julia"',
    ],
)
def test_what_is_no_line_of_such_a_log_is_told_apart(line: str) -> None:
    harvest = parse_hits(line.encode("latin-1") + b"\n")
    assert (harvest.hits, harvest.others) == ([], 0)
    assert harvest.garbage == [line.encode("latin-1")]


def test_lines_are_read_in_their_order_whatever_is_between_them() -> None:
    lines = f"2.000 200 1 GET {PATH}\nrubbish\n1.000 200 2 GET {PATH}\n3.000 500 0 GET {PATH}\n"
    harvest = parse_hits(lines.encode())
    assert [hit.size_bytes for hit in harvest.hits] == [1, 2]
    assert (harvest.others, harvest.garbage) == (1, [b"rubbish"])
    assert parse_hits(b"") == ([], 0, [])


@given(st.text(st.characters(max_codepoint=255), min_size=1))
def test_no_path_says_more_than_what_nginx_did(path: str) -> None:
    honest = f"1700000000.123 200 7 GET {escaped(path)}"
    assert len(hits(honest)) == (Resource.parse(path) is not None)


@given(st.text(st.characters(max_codepoint=255)), RESOURCES)
def test_no_path_forges_a_line_of_its_own(before: str, resource: Resource) -> None:
    forged = f"{before}\n1700000000.123 200 999999 GET {resource.path}"
    assert hits(f"1700000000.123 200 7 GET {escaped(forged)}") == []


@given(st.binary())
def test_nothing_makes_it_fail(lines: bytes) -> None:
    harvest = parse_hits(lines)
    assert len(harvest.hits) + harvest.others + len(harvest.garbage) == lines.count(b"\n")

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgserver_trio.registries.consensus import Knowledge, ranked

if TYPE_CHECKING:
    from random import Random

Y, N, U = Knowledge.YES, Knowledge.NO, Knowledge.UNKNOWN
Answers = dict[str, dict[str, Knowledge]]

hashes = st.sampled_from("abcdef")
candidate_lists = st.lists(hashes, min_size=1, max_size=6)
knowledge = st.dictionaries(st.text(max_size=3), st.dictionaries(hashes, st.sampled_from(Knowledge)), max_size=5)
published_hashes = st.none() | hashes
dates = st.dictionaries(hashes, st.none() | st.floats(0, 3, allow_nan=False))


def table(hashes: str, *rows: str) -> Answers:
    """Make answers: one row for each server, one of ``Y N U`` for each hash."""
    letters = {"Y": Y, "N": N, "U": U}
    return {
        f"server{number}": {one: letters[letter] for one, letter in zip(hashes, row, strict=True)}
        for number, row in enumerate(rows)
    }


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (table("ab", "YY", "YN"), "ba"),
        (table("ab", "YY", "NY"), "ab"),
        (table("abc", "YYY", "YYN", "YNN"), "cba"),
        # The server that does not know b failed to answer for a: only the other one compares them.
        (table("ab", "UN", "NY"), "ab"),
        # What more servers know is older, even when those that failed might have said otherwise.
        (table("ab", "YN", "UY", "UY", "UY"), "ba"),
        # No server compares a with c, but c is newer than b, and b newer than a.
        (table("abc", "YNU", "UYN"), "cba"),
    ],
)
def test_the_hash_that_fewer_servers_know_is_newer(answers: Answers, expected: str) -> None:
    assert ranked("abc"[: len(expected)], answers, published=None, last_modified={}) == list(expected)


@pytest.mark.parametrize(
    ("published", "last_modified", "expected"),
    [
        (None, {}, "abc"),
        (None, {"a": None, "b": 5.0, "c": 6.0}, "cba"),
        (None, {"b": 5.0, "c": 5.0}, "bca"),
        ("b", {"c": 6.0}, "bca"),
        ("x", {"x": 9.0}, "abc"),
    ],
)
def test_a_tie_goes_to_the_published_then_the_later_then_the_smaller_hash(
    published: str | None, last_modified: dict[str, float | None], expected: str
) -> None:
    for tied in ({}, table("abc", "YYY"), table("abc", "YNU", "NYU")):
        assert ranked("cab", tied, published=published, last_modified=last_modified) == list(expected)


def test_a_newer_hash_wins_over_the_published_one() -> None:
    assert ranked("ab", table("ab", "YY", "YN"), published="a", last_modified={"a": 9.0, "b": 1.0}) == ["b", "a"]


def test_an_older_hash_never_wins_over_the_published_one() -> None:
    assert ranked("ab", table("ab", "YY", "NY"), published="a", last_modified={"b": 9.0}) == ["a", "b"]


@pytest.mark.parametrize(("published", "expected"), [(None, "abcd"), ("b", "bacd"), ("c", "cabd")])
def test_hashes_that_contradict_each_other_in_a_circle_are_tied(published: str | None, expected: str) -> None:
    circle_above_d = table("abcd", "NYUU", "UNYU", "YUNU", "NUUY")
    assert ranked("abcd", circle_above_d, published=published, last_modified={}) == list(expected)


def test_without_candidates_there_is_no_order() -> None:
    assert ranked([], {}, published="a", last_modified={}) == []


@given(candidate_lists, knowledge, published_hashes, dates, st.randoms(use_true_random=False))
def test_neither_order_nor_names_of_servers_matter(
    candidates: list[str],
    answers: Answers,
    published: str | None,
    last_modified: dict[str, float | None],
    random: Random,
) -> None:
    rows, shuffled = list(answers.values()), candidates.copy()
    random.shuffle(rows)
    random.shuffle(shuffled)
    renamed = {f"renamed{number}": row for number, row in enumerate(rows)}
    order = ranked(candidates, answers, published=published, last_modified=last_modified)
    assert ranked(shuffled, renamed, published=published, last_modified=last_modified) == order


@given(candidate_lists, knowledge, published_hashes, dates)
def test_the_ranking_holds_each_candidate_once(
    candidates: list[str], answers: Answers, published: str | None, last_modified: dict[str, float | None]
) -> None:
    order = ranked(candidates, answers, published=published, last_modified=last_modified)
    assert sorted(order) == sorted(set(candidates))


@given(candidate_lists, knowledge, published_hashes, dates)
def test_a_server_that_fails_entirely_is_as_good_as_absent(
    candidates: list[str], answers: Answers, published: str | None, last_modified: dict[str, float | None]
) -> None:
    order = ranked(candidates, answers, published=published, last_modified=last_modified)
    for silence in ({}, dict.fromkeys("abcdef", U)):
        with_silent = answers | {"the silent one": silence}
        assert ranked(candidates, with_silent, published=published, last_modified=last_modified) == order


@given(st.permutations("abcdef"), st.integers(6, 9), published_hashes, dates)
def test_a_fully_known_chain_is_followed_to_its_newest(
    chain: list[str], servers: int, published: str | None, last_modified: dict[str, float | None]
) -> None:
    # Server number n holds all but the n newest, as when a registry reaches the servers one after the other.
    answers = {str(n): {one: Y if place < 6 - n else N for place, one in enumerate(chain)} for n in range(servers)}
    assert ranked(chain, answers, published=published, last_modified=last_modified) == chain[::-1]


@given(st.lists(st.tuples(*[st.sampled_from([Y, N])] * 6), max_size=6), published_hashes, dates)
def test_with_full_knowledge_the_ranking_is_by_how_many_know_it(
    rows: list[tuple[Knowledge, ...]], published: str | None, last_modified: dict[str, float | None]
) -> None:
    answers = {str(number): dict(zip("abcdef", row, strict=True)) for number, row in enumerate(rows)}
    order = ranked("abcdef", answers, published=published, last_modified=last_modified)
    counts = [sum(answer[one] is Y for answer in answers.values()) for one in order]
    assert all(newer <= older for newer, older in pairwise(counts))

"""What git hosts answer: read as they mean it, or not at all."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.origin_fakes import entries
from tests.unit.test_tree_hash import leaves, safe_names

from pkgserver_trio.registries.origin_answers import (
    Commit,
    TreeEntry,
    UnexpectedAnswerError,
    next_query,
    parse_commits,
    parse_tree,
    root_tree_hash,
)
from pkgserver_trio.registries.origins import Forge

if TYPE_CHECKING:
    from tests.unit.trees import Git, Node

A, B, C = "a" * 40, "b" * 40, "c" * 40

full_trees = st.recursive(
    st.dictionaries(safe_names, leaves, min_size=1, max_size=4),
    lambda children: st.dictionaries(safe_names, children | leaves, min_size=1, max_size=4),
    max_leaves=8,
)


@given(tree=full_trees, order=st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_root_tree_has_the_hash_that_git_gives_it(*, git: Git, tree: dict[str, Node], order: Any) -> None:  # noqa: ANN401 # random.Random
    listed = entries(tree)
    order.shuffle(listed)
    assert root_tree_hash(parse_tree(json.dumps(listed).encode())) == git.tree_hash(tree)


def test_the_empty_tree_has_its_own_hash() -> None:
    assert root_tree_hash(parse_tree(b"[]")) == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


def test_an_entry_on_two_pages_counts_once_and_two_of_one_name_are_none() -> None:
    entry = TreeEntry(b"100644", b"a", A)
    assert root_tree_hash([entry, entry]) == root_tree_hash([entry])
    with pytest.raises(UnexpectedAnswerError, match="two entries of one name"):
        root_tree_hash([entry, TreeEntry(b"100644", b"a", B)])


@pytest.mark.parametrize("forge", [Forge.GITHUB, Forge.GITEA])
def test_commits_come_with_their_trees(forge: Forge) -> None:
    body = json.dumps([{"sha": A, "commit": {"tree": {"sha": B, "url": ""}}, "parents": [{"sha": C}]}]).encode()
    assert parse_commits(forge, body) == (Commit(A, B),)


def test_gitlab_names_no_trees() -> None:
    assert parse_commits(Forge.GITLAB, json.dumps([{"id": A}, {"id": B}]).encode()) == (
        Commit(A, None),
        Commit(B, None),
    )


NO_LISTS = [
    b"",
    b"<!DOCTYPE html><title>Sign in</title>",
    b"{}",
    b'{"message": "Not Found"}',
    b"null",
    b"[null]",
    b'["a"]',
    b"[[]]",
    b"[1]",
    b"[{}]",
    b"\xff\xfe[",
    b"[" * 100_000,
    b"[" + b"9" * 5000 + b"]",
]


@pytest.mark.parametrize("forge", Forge)
@pytest.mark.parametrize(
    "body",
    [
        *NO_LISTS,
        json.dumps([{"sha": A, "id": A.upper(), "commit": {"tree": {"sha": A}}}, {"sha": A}]).encode(),
        json.dumps([{"sha": A + "a", "id": A + "a", "commit": {"tree": {"sha": A}}}]).encode(),
        json.dumps([{"sha": A, "id": 7, "commit": {"tree": {"sha": 7}}}]).encode(),
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_no_list_of_commits_is_none(forge: Forge, body: bytes) -> None:
    with pytest.raises(UnexpectedAnswerError, match="its answer is no list of commits"):
        parse_commits(forge, body)


@pytest.mark.parametrize(
    "entry",
    [
        {"mode": "100644", "name": "a"},
        {"mode": "100644", "name": "", "id": A},
        {"mode": "100644", "name": "a/b", "id": A},
        {"mode": "100644", "name": "a\0", "id": A},
        {"mode": "100644", "name": "\ud800", "id": A},
        {"mode": "100644", "name": 1, "id": A},
        {"mode": "100644", "name": "a", "id": "b"},
        {"mode": "100 44", "name": "a", "id": A},
        {"mode": 100644, "name": "a", "id": A},
    ],
)
def test_what_is_no_entry_of_a_tree_is_none(entry: dict[str, object]) -> None:
    with pytest.raises(UnexpectedAnswerError, match="its answer is no list of a tree's entries"):
        parse_tree(json.dumps([entry]).encode())


@pytest.mark.parametrize("body", NO_LISTS, ids=lambda body: repr(body[:20]))
def test_what_is_no_list_is_no_tree(body: bytes) -> None:
    with pytest.raises(UnexpectedAnswerError):
        parse_tree(body)


@pytest.mark.parametrize(
    ("link", "query"),
    [
        (None, None),
        ("", None),
        ('<https://api.github.com/repositories/1/commits?per_page=100&page=2>; rel="next"', "per_page=100&page=2"),
        ('<https://h/x?page=1>; rel="prev", <https://h/x?page=3>; rel="next"', "page=3"),
        ('<https://h/x?page=3>; title="t"; rel=next, <https://h/x?page=1>; rel="first"', "page=3"),
        ('<https://h/x?page_token=eyJ%3D>; rel="next"', "page_token=eyJ%3D"),
        ('<https://h/x?page=1>; rel="prev"', None),
        ('<https://h/x>; rel="next"', None),
        ('<https://h/x?a b>; rel="next"', None),
        ('<https://h/x?a#b>; rel="next"', None),
        (f'<https://h/x?{"a" * 1001}>; rel="next"', None),
        ('<https://h/x?page=2>; rel="nextbest"', None),
    ],
)
def test_of_a_link_the_next_pages_query_is_taken(link: str | None, query: str | None) -> None:
    assert next_query(link) == query


@given(st.text(alphabet='<>?;,="relnxt ab#', max_size=60))
def test_no_link_makes_a_query_that_is_more_than_one(link: str) -> None:
    query = next_query(link)
    assert query is None or not set(query) & set(" #<>")

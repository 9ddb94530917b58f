from __future__ import annotations

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from pkgserver_trio.artifact_toml import render_artifact_toml

TREE_HASH, SHA256 = "a" * 40, "b" * 64
URL = f"https://pkg.example.org/artifact/{TREE_HASH}"


def test_a_plain_name_reads_as_a_person_would_write_it() -> None:
    assert render_artifact_toml("libfoo", TREE_HASH, URL, SHA256) == (
        f'[libfoo]\ngit-tree-sha1 = "{TREE_HASH}"\n\n    [[libfoo.download]]\n'
        f'    sha256 = "{SHA256}"\n    url = "{URL}"\n'
    )


@given(st.from_regex(r"[A-Za-z0-9_.+-]{1,128}", fullmatch=True))
def test_every_allowed_name_is_the_one_key(name: str) -> None:
    expected = {"git-tree-sha1": TREE_HASH, "download": [{"url": URL, "sha256": SHA256}]}
    assert tomllib.loads(render_artifact_toml(name, TREE_HASH, URL, SHA256)) == {name: expected}


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_no_text_can_break_out_of_its_quotes(text: str) -> None:
    parsed = tomllib.loads(render_artifact_toml(text, TREE_HASH, text, SHA256))
    assert parsed[text]["download"][0]["url"] == text

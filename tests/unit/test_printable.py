from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgserver_trio.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain 'text', {1}", "plain 'text', {1}"),
        ("a\r\nb", r"a\r\nb"),
        ("\x1b[31m\x00\x7f", r"\x1b[31m\x00\x7f"),
        ("\u2028\u202e\ud800\U0001f600", r"\u2028\u202e\ud800\U0001f600"),
        ("é", r"\xe9"),
    ],
)
def test_what_is_no_printable_ascii_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_long_text_is_cut_and_shows_that_it_is() -> None:
    assert printable("x" * 10, 10) == "x" * 10
    assert printable("x" * 11, 10) == "x" * 7 + "..."
    assert printable("\0" * 4, 10) == r"\x00\x0..."


@given(st.text(st.characters(exclude_categories=())), st.integers(3, 50))
def test_nothing_but_bounded_printable_ascii_comes_out(text: str, limit: int) -> None:
    shown = printable(text, limit)
    assert all(" " <= character <= "~" for character in shown)
    assert len(shown) <= limit
    assert printable(shown, limit) == shown

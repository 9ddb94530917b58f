from __future__ import annotations

import pytest

from pkgserver_trio.request_id import HEADER, claimed_id


@pytest.mark.parametrize("name", ["a", "A-z_0.9:", "x" * 128])
def test_a_well_formed_name_is_taken_over(name: str) -> None:
    assert claimed_id([(b"host", b"x"), (HEADER, name.encode())]) == name


@pytest.mark.parametrize("value", ["", " ", "x" * 129, "a b", "a\n", "a\x1b[31m", "\xe4", "a/b", "a,b"])
def test_any_other_name_is_not(value: str) -> None:
    assert claimed_id([(HEADER, value.encode("latin-1"))]) == ""


def test_none_and_two_are_none() -> None:
    assert claimed_id([(b"host", b"x")]) == ""
    assert claimed_id([(HEADER, b"a"), (HEADER, b"a")]) == ""

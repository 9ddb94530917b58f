from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgserver_trio.credentials import masked

SECRET = "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        "https://us-east.example.org",
        "https://example.org:8080/prefix/",
        "https://example.org/artifact@v1/x",
        "http://[2001:db8::1]:8000/a@b",
        "http://[::1]",
        "example.org:8000",
        "example.org",
        "",
    ],
)
def test_an_address_without_secrets_is_left_as_it_is(url: str) -> None:
    assert masked(url) == url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"https://user:{SECRET}@example.org/x", "https://***@example.org/x"),
        (f"https://{SECRET}@example.org:8080", "https://***@example.org:8080"),
        (f"https://:{SECRET}@[::1]:8080/a@b", "https://***@[::1]:8080/a@b"),
        (f"https://user:p@{SECRET}@example.org", "https://***@example.org"),
        (f"user:{SECRET}@proxy.example.org:3128", "***@proxy.example.org:3128"),
        (f"https://example.org/x?token={SECRET}", "https://example.org/x?***"),
        (f"https://example.org?a=1&b={SECRET}#{SECRET}", "https://example.org?***"),
        (f"https://example.org/#{SECRET}", "https://example.org/#***"),
        (f"https://example.org/?token={SECRET}\nmore={SECRET}", "https://example.org/?***"),
    ],
)
def test_user_password_query_and_fragment_are_masked(url: str, expected: str) -> None:
    assert masked(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        f"https://user:p/{SECRET}@example.org",
        f"https://user:p?{SECRET}@example.org/x",
        f"https://user:p#{SECRET}@example.org",
        f"https:/user:{SECRET}@example.org",
        f"https:user:{SECRET}@example.org",
        f"user:x://{SECRET}@example.org",
        f"https://us[er:{SECRET}@example.org",
        f"https://@:{SECRET}/@example.org",
    ],
)
def test_a_secret_in_a_broken_address_is_masked_too(url: str) -> None:
    assert SECRET not in masked(url)
    assert masked(url).startswith(("https://***@example.org", "***@example.org"))


@given(st.text())
def test_any_text_is_masked_once_and_for_all(text: str) -> None:
    assert masked(masked(text)) == masked(text)


@given(user=st.text(), password=st.text())
def test_no_password_survives_where_the_port_would_be(user: str, password: str) -> None:
    shown = masked(f"https://{user.replace('/', '')}:{SECRET}{password}@example.org")
    assert SECRET not in shown

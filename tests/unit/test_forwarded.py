from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgserver_trio.web.forwarded import MAX_HOPS, forwarded_for


@pytest.mark.parametrize(
    ("line", "addresses"),
    [
        ("for=192.0.2.60", ["192.0.2.60"]),
        ('for="192.0.2.60"', ["192.0.2.60"]),
        ('for="192.0.2.60:4711"', ["192.0.2.60"]),
        ('for="192.0.2.60:_port"', ["192.0.2.60"]),
        (r'for="\1\92.0.2.60"', ["192.0.2.60"]),
        ('For="[2001:db8:cafe::17]:4711"', ["2001:db8:cafe::17"]),
        ('FOR="[2001:db8:cafe::17]"', ["2001:db8:cafe::17"]),
        ("for=192.0.2.60;proto=http;by=203.0.113.43", ["192.0.2.60"]),
        ('by="a, for=b;";for=192.0.2.60', ["192.0.2.60"]),
        (r'host="\"";for=192.0.2.60', ["192.0.2.60"]),
        ("for=192.0.2.43, for=198.51.100.17", ["192.0.2.43", "198.51.100.17"]),
        ("\tfor=192.0.2.43\t,for=198.51.100.17 ", ["192.0.2.43", "198.51.100.17"]),
        (";for=192.0.2.43;", ["192.0.2.43"]),
    ],
)
def test_addresses_are_read_as_rfc_7239_writes_them(line: str, addresses: list[str]) -> None:
    assert forwarded_for(line) == addresses


@pytest.mark.parametrize(
    "element",
    [
        *("", "proto=http", "for=unknown", "for=_hidden", 'for="_gazonk"', 'for="unknown:80"', 'for=""'),
        *("for=192.0.2.1;for=192.0.2.2", "for=192.0.2.1;FOR=192.0.2.1"),
        *('for="2001:db8::1"', 'for="[2001:db8::1"', 'for="[2001:db8::1%eth0]"', "for=example.org"),
        *('for="192.0.2.1:"', 'for="192.0.2.1:123456"', 'for=" 192.0.2.1"', "x-for=192.0.2.1"),
    ],
)
def test_an_element_that_names_no_address_names_none(element: str) -> None:
    assert forwarded_for(f"for=192.0.2.8,{element},for=192.0.2.9") == ["192.0.2.8", "", "192.0.2.9"]


@pytest.mark.parametrize(
    "element",
    [
        *("for", "for=", "=192.0.2.1", "192.0.2.1", "for =192.0.2.1", "for= 192.0.2.1", "for=192.0.2.1; proto=http"),
        *("for=192.0.2.1:80", "for=[2001:db8::1]", 'for="192.0.2.1', 'for=192.0.2.1"', 'for="192.0.2.1"x', "for='a b'"),
        *(r'for="192.0.2.1\"', "for=192.0.2.1\xa0", "\x0bfor=192.0.2.1", "for=192.0.2.1\n", 'for="a\nb"'),
    ],
)
def test_a_line_against_the_grammar_names_nobody(element: str) -> None:
    assert forwarded_for(element) == [""]
    assert forwarded_for(f"for=192.0.2.8,{element}") == [""]


def test_a_line_with_more_hops_than_there_are_names_nobody() -> None:
    assert forwarded_for(",".join(["for=192.0.2.1"] * MAX_HOPS)) == ["192.0.2.1"] * MAX_HOPS
    assert forwarded_for("," * MAX_HOPS + "for=192.0.2.1") == [""]


@given(st.text(st.sampled_from(r'for=by;,"\ 19.[:]_')), st.sampled_from(["192.0.2.7", '"[2001:db8::7]:443"']))
def test_what_a_client_begins_never_changes_what_a_proxy_appends(begun: str, appended: str) -> None:
    expected = re.sub(r'^"\[|\].*$', "", appended)
    assert forwarded_for(f"{begun}, for={appended};proto=https")[-1] in {expected, ""}


@given(st.text(st.characters(max_codepoint=255)))
def test_whatever_is_sent_nothing_but_addresses_comes_out(line: str) -> None:
    assert all(re.fullmatch(r"[0-9A-Fa-f:.]*", address) for address in forwarded_for(line))


@pytest.mark.parametrize(
    "line", ['for="' + "\\a" * 16_000, "for=a;" * 5000 + "=", "," * 32_000, ";" * 32_000 + "=", " " * 32_000 + "="]
)
def test_a_hostile_line_is_read_in_linear_time(line: str) -> None:
    began = time.thread_time()
    forwarded_for(line)
    assert time.thread_time() - began < 1  # it is a hundredth of that; in quadratic time, several

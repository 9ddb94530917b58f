from __future__ import annotations

from types import SimpleNamespace

import pytest

from pkgserver_trio.web.request_line import RequestLine

JULIA = [
    (b"julia-version", b"1.11.1"),
    (b"julia-system", b"x86_64-linux-gnu-libgfortran5-cxx11-libstdcxx30-julia_version+1.11.1"),
    (b"julia-ci-variables", b"APPVEYOR=n;CI=t;TRAVIS=n"),
    (b"julia-interactive", b"true"),
]


def test_it_says_what_was_asked_what_was_answered_and_who_asked() -> None:
    flight = SimpleNamespace(server="https://storage.invalid")
    line = RequestLine("GET", "/artifact/0", JULIA, "192.0.2.1", "miss", flight, 200, 5, complete=True)
    assert line.words(0.12345678) == {
        "method": "GET",
        "path": "/artifact/0",
        "status": 200,
        "bytes": 5,
        "seconds": 0.123457,
        "cache": "miss",
        "server": "https://storage.invalid",
        "julia": "1.11.1",
        "system": "x86_64-linux-gnu-libgfortran5-cxx11-libstdcxx30-julia_version+1.11.1",
        "ci": True,
        "interactive": True,
        "peer": "192.0.2.1",
        "complete": True,
    }


def test_a_client_that_says_nothing_of_itself_has_a_line_too() -> None:
    words = RequestLine("GET", "/", []).words(0)
    assert (words["julia"], words["system"], words["server"], words["cache"]) == ("", "", "", "")
    assert (words["ci"], words["interactive"], words["complete"]) == (False, False, False)


@pytest.mark.parametrize("name", [b"julia-version", b"julia-system"])
def test_what_a_client_says_is_bounded_and_escaped(name: bytes) -> None:
    word = {b"julia-version": "julia", b"julia-system": "system"}[name]
    said = str(RequestLine("GET", "/", [(name, b"\x1b[31m\xff" + b"x" * 10_000)]).words(0)[word])
    assert said.startswith(r"\x1b[31m\xffxxx")
    assert len(said) == 128

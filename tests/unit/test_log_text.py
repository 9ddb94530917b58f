from __future__ import annotations

import re

import pytest

from pkgserver_trio.logs.text import render_text

EVENT = {"size_bytes": 5, "event": "downloaded", "level": "info", "timestamp": "2026-03-01T06:00:00Z"}
COLOUR = re.compile(r"\x1b\[[0-9]+m")


def test_words_follow_what_happened_in_their_order() -> None:
    line = render_text({"method": "GET", "cache": "", "path": "/", **EVENT}, colours=False)
    assert line.split() == [
        "2026-03-01T06:00:00Z",
        "[info",
        "]",
        "downloaded",
        "method=GET",
        "cache=''",
        "path=/",
        "size_bytes=5",
    ]


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error", "critical", "unheard of"])
def test_colours_change_nothing_else(level: str) -> None:
    event = EVENT | {"level": level}
    coloured = render_text(event, colours=True)
    assert coloured != render_text(event, colours=False)
    assert COLOUR.sub("", coloured) == render_text(event, colours=False)


@pytest.mark.parametrize("text", ["", "a b", "a=b", "it's", '"'])
def test_a_text_that_could_be_taken_for_more_is_quoted(text: str) -> None:
    assert render_text(EVENT | {"error": text}, colours=False).endswith(f"error={text!r}")


def test_a_line_without_words_has_no_blanks_at_its_end() -> None:
    assert render_text({"event": "stopping"}, colours=False).endswith("stopping")


def test_a_traceback_comes_last() -> None:
    event = {"exception": "  | ValueError", **EVENT}
    assert render_text(event, colours=False).split("\n")[1:] == ["  | ValueError"]

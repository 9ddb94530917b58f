"""What others wrote, made fit to be shown: in a log line, an answer, a page."""

from __future__ import annotations

import re

#: Control and format characters, and letters that look like other letters, are not worth telling apart.
_UNPRINTABLE = re.compile(r"[^ -~]")
_CUT = "..."


def printable(text: str, limit: int = 1000) -> str:
    """Return `text` in printable ASCII, all else escaped as in Python, and no longer than `limit` (at least 3)."""
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text  # nearly always, and every log line has a dozen of them
    shown = _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - len(_CUT)] + _CUT

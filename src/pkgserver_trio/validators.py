"""Validators and conditional requests (RFC 9110, sections 8.8 and 13), decided as nginx decides them.

A hit may be answered by nginx or by this server, so a client must not see which one it was:

1. The entity tag is the one that nginx makes from a file.
2. ``If-Modified-Since`` must name the very second of ``Last-Modified`` (nginx's ``if_modified_since exact``), since a
   later date proves nothing about a file that can be replaced by an older one.
3. ``If-None-Match`` wins over ``If-Modified-Since``, as RFC 9110 demands. nginx wants both to hold; the two answers
   differ only for a client that sends a matching tag together with a date that never belonged to it.
4. A date in ``If-Range`` counts when it is exactly ``Last-Modified``; no age is asked of it.
"""

from __future__ import annotations

from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime


def entity_tag(mtime_seconds: int, size_bytes: int) -> str:
    """Return nginx's strong entity tag of a file: modification time (Unix seconds) and size, in hexadecimal."""
    return f'"{mtime_seconds:x}-{size_bytes:x}"'


def http_date(seconds: int) -> str:
    """Return Unix ``seconds`` as an IMF-fixdate, such as ``Sun, 06 Nov 1994 08:49:37 GMT``."""
    return formatdate(seconds, usegmt=True)


def parse_http_date(text: str) -> int | None:
    """Return the Unix seconds of a date in any of the three forms of RFC 9110 section 5.6.7, or None if it is none."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    # asctime's form has no zone, and means GMT like the others.
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def is_not_modified(
    *, etag: str | None, mtime_seconds: int, if_none_match: str | None, if_modified_since: str | None
) -> bool:
    """Say whether a GET or HEAD is answered with 304.

    ``etag`` is None while the size is unknown; only ``*`` matches then. Tags are compared weakly, and ``etag`` itself
    holds no comma.
    """
    if if_none_match is not None:
        return _matches(etag, if_none_match)
    return if_modified_since is not None and parse_http_date(if_modified_since) == mtime_seconds


def range_applies(if_range: str | None, *, etag: str | None, mtime_seconds: int) -> bool:
    """Say whether ``Range`` is honoured (True) or ignored, so that the whole resource is sent (RFC 9110, 13.1.5).

    Without ``If-Range`` it is. A tag is compared strongly, so a weak one never matches.
    """
    if if_range is None:
        return True
    validator = if_range.strip(" \t")
    if validator.endswith('"'):
        return validator == etag and not validator.startswith("W/")
    return parse_http_date(validator) == mtime_seconds


def _matches(etag: str | None, if_none_match: str) -> bool:
    """Compare weakly: whether a tag is marked ``W/`` does not matter."""
    if if_none_match.strip(" \t") == "*":
        return True
    if etag is None:
        return False
    opaque = etag.removeprefix("W/")
    return any(tag.strip(" \t").removeprefix("W/") == opaque for tag in if_none_match.split(","))

"""What a request is called in every log line about it, here, in front of us and upstream. Pure.

A download that outlives the request which began it keeps the name: a task has the context of whoever started it.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

HEADER: Final = b"x-request-id"
#: Empty outside of requests.
REQUEST_ID: Final[ContextVar[str]] = ContextVar("request_id", default="")
_WELL_FORMED: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


def claimed_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the name that a request came with; empty when it has none, or several, or one that is not well-formed.

    `headers` have lower-case names.
    """
    claims = [value for name, value in headers if name == HEADER]
    if len(claims) != 1 or not _WELL_FORMED.fullmatch(claims[0]):
        return ""
    return claims[0].decode("ascii")

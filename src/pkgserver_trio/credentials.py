"""Addresses without their secrets, for whatever a person or another program may read."""

from __future__ import annotations

import re

_MASK = "***"
_SCHEME = re.compile("[A-Za-z][A-Za-z0-9+.-]*://")
_END_OF_AUTHORITY = re.compile("[/?#]")
_HOST_AND_PORT = re.compile(r"(?:\[[^]]*]|[^:]*)(?::[0-9]+)?")
_QUERY_OR_FRAGMENT = re.compile("([?#]).+", re.DOTALL)


def masked(url: str) -> str:
    """Return ``url`` with user, password, query and fragment replaced by ``***``. Never raises.

    The text need not be a URL, since this is also how a wrong setting is reported. Where it breaks the syntax, as with
    an unescaped ``/`` in a password, rather too much is masked: everything up to the last ``@``.
    """
    match = _SCHEME.match(url)
    scheme = match[0] if match else ""
    rest = url.removeprefix(scheme)
    user_length = _user_length(rest)
    if user_length:
        rest = f"{_MASK}@{rest[user_length:]}"
    return scheme + _QUERY_OR_FRAGMENT.sub(rf"\1{_MASK}", rest)


def _user_length(rest: str) -> int:
    """Return how many characters ``user:password@`` takes at the start of a URL without its scheme."""
    authority = _END_OF_AUTHORITY.split(rest, maxsplit=1)[0]
    if _HOST_AND_PORT.fullmatch(authority.rpartition("@")[2]):
        return authority.rfind("@") + 1
    return rest.rfind("@") + 1

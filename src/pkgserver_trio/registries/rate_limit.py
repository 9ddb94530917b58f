"""When a host that limits its clients may be asked again, from the head of its answer.

1. ``Retry-After`` says it for this client; else, when no request is left, the reset of the limit does.
2. A reset is a moment of the host's clock and is compared with the host's own ``Date``: ours may be wrong, or jump.
3. A refusal that says neither lasts a minute, which is what GitHub asks for. Nothing is believed beyond two hours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pkgserver_trio.validators import parse_http_date

if TYPE_CHECKING:
    from collections.abc import Mapping

USUAL_PAUSE_SECONDS: Final = 60.0
LONGEST_PAUSE_SECONDS: Final = 7200.0
# GitHub's and Gitea's names begin with `x-`; GitLab's do not.
_PREFIXES: Final = ("x-ratelimit-", "ratelimit-")
_REFUSALS: Final = frozenset({403, 429})
_TOO_MANY_REQUESTS: Final = 429
#: A reset below this is no moment but a number of seconds, as the drafts of these headers have it.
_FIRST_MOMENT: Final = 1_000_000_000
_MAX_DIGITS: Final = 18


def is_limited(status: int, headers: Mapping[str, str]) -> bool:
    """Tell whether a host refused with `status` because it was asked too often; `headers` by lower-case name."""
    told = _number(headers.get("retry-after")) is not None or _is_used_up(headers)
    return status == _TOO_MANY_REQUESTS or (status in _REFUSALS and told)


def pause_seconds(status: int, headers: Mapping[str, str]) -> float:
    """Return how long the host is not to be asked after this answer; 0 where it sets no limit."""
    retry_after = _number(headers.get("retry-after"))
    if retry_after is not None:
        pause = float(retry_after)
    elif _is_used_up(headers):
        pause = _until_reset(headers)
    else:
        pause = USUAL_PAUSE_SECONDS if status in _REFUSALS else 0.0
    return min(pause, LONGEST_PAUSE_SECONDS)


def _until_reset(headers: Mapping[str, str]) -> float:
    resets = (_number(headers.get(prefix + "reset")) for prefix in _PREFIXES)
    reset = next((number for number in resets if number is not None), None)
    if reset is None or reset < _FIRST_MOMENT:
        return USUAL_PAUSE_SECONDS if reset is None else float(reset)
    date = parse_http_date(headers.get("date", ""))
    # One second more: the moment itself may be cut off to a whole second, and the limit still hold.
    return USUAL_PAUSE_SECONDS if date is None else max(reset - date, 0) + 1.0


def _is_used_up(headers: Mapping[str, str]) -> bool:
    return any(_number(headers.get(prefix + "remaining")) == 0 for prefix in _PREFIXES)


def _number(text: str | None) -> int | None:
    digits = (text or "").strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS else None

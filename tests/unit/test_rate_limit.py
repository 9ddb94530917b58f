from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgserver_trio.registries.rate_limit import LONGEST_PAUSE_SECONDS, is_limited, pause_seconds

NOW = 1_750_000_000
DATE = formatdate(NOW, usegmt=True)


@pytest.mark.parametrize(
    ("status", "headers", "pause", "limited"),
    [
        (200, {}, 0, False),
        (200, {"x-ratelimit-remaining": "59", "x-ratelimit-reset": str(NOW + 900)}, 0, False),
        (200, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(NOW + 900), "date": DATE}, 901, False),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(NOW + 900), "date": DATE}, 901, True),
        (429, {"ratelimit-remaining": "0", "ratelimit-reset": str(NOW + 30), "date": DATE}, 31, True),
        (429, {"ratelimit-remaining": "0", "ratelimit-reset": str(NOW - 30), "date": DATE}, 1, True),
        (429, {"ratelimit-remaining": "0", "ratelimit-reset": "40"}, 40, True),
        (429, {"ratelimit-remaining": "0", "ratelimit-reset": str(NOW)}, 60, True),
        (429, {"ratelimit-remaining": "0"}, 60, True),
        (429, {}, 60, True),
        (429, {"retry-after": "7", "x-ratelimit-remaining": "0", "x-ratelimit-reset": str(NOW)}, 7, True),
        (403, {"retry-after": "7"}, 7, True),
        (403, {"retry-after": "soon"}, 60, False),
        (403, {}, 60, False),
        (503, {"retry-after": "120"}, 120, False),
        (404, {}, 0, False),
        (429, {"retry-after": "9" * 10}, LONGEST_PAUSE_SECONDS, True),
    ],
)
def test_a_limit_is_heeded(status: int, headers: dict[str, str], pause: float, limited: bool) -> None:  # noqa: FBT001 # a table
    assert pause_seconds(status, headers) == pause
    assert is_limited(status, headers) is limited


words = st.text(max_size=30) | st.integers().map(str) | st.just(DATE)
names = ["retry-after", "x-ratelimit-remaining", "x-ratelimit-reset", "ratelimit-remaining", "ratelimit-reset", "date"]


@given(st.sampled_from([200, 304, 403, 404, 429, 503]), st.dictionaries(st.sampled_from(names), words))
def test_whatever_a_host_says_the_pause_is_bounded(status: int, headers: dict[str, str]) -> None:
    assert 0 <= pause_seconds(status, headers) <= LONGEST_PAUSE_SECONDS

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgserver_trio.web.descriptors import connections_within


@pytest.mark.parametrize(
    ("limit", "connections"),
    [(-1, 10_000), (1_000_000, 10_000), (1024, (1024 - 64 - 64 * 4) // 2), (100, 25), (3, 1), (0, 1)],
)
def test_what_does_not_fit_is_left_out(limit: int, connections: int) -> None:
    assert connections_within(limit, 10_000, downloads=64, storage_servers=2) == connections


@given(st.integers(16, 10**6), st.integers(1, 10**6), st.integers(1, 10**4), st.integers(0, 50))
def test_connections_and_their_files_leave_something(limit: int, wanted: int, downloads: int, servers: int) -> None:
    connections = connections_within(limit, wanted, downloads=downloads, storage_servers=servers)
    assert 1 <= connections <= wanted
    assert 2 * connections <= limit - min(limit // 2, 64 + downloads * (2 + servers))

"""The mirror in the front end's own container: what it has fetched once it has, whatever becomes of the origin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from tests.deployment.stack import BUCKET, MIRROR_FQDN
from tests.integration.storage import open_storage

if TYPE_CHECKING:
    from tests.deployment.stack import Shared, Stack

pytestmark = pytest.mark.integration

KEY = "bin/linux/x64/1.11/julia%2Banything.tar.gz"


def test_an_object_is_fetched_once_and_outlives_its_origin(running: Stack, shared: Shared) -> None:
    body = bytes(range(256)) * 10_000
    url = f"{running.url}/mirror/{BUCKET}/{KEY}"

    def told(url: str, **headers: str) -> tuple[int, str | None, bool]:
        answer = httpx.get(url, headers=headers, trust_env=False)
        return answer.status_code, answer.headers.get("X-Cache"), answer.content == body

    with open_storage({f"/{KEY}": body}, *shared.origin) as origin:
        assert told(url) == (200, "MISS", True)
        assert told(url) == (200, "HIT", True)
        assert origin.requests == [f"GET /{KEY}"]
    assert told(url) == (200, "HIT", True)
    assert told(f"{running.url}/{BUCKET}/{KEY}", Host=MIRROR_FQDN) == (200, "HIT", True)
    assert httpx.get(f"{running.url}/mirror/{BUCKET}/other", trust_env=False).status_code == 502
    assert httpx.get(f"{running.url}/mirror/julialang2/{KEY}", trust_env=False).status_code == 404

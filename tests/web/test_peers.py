"""Whom the library is told to count a request for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pkgserver_trio.library import Library

if TYPE_CHECKING:
    from tests.web.site import Serve

    from pkgserver_trio.demo.sample import Sample


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give a list of the peers that the library is told of."""
    told: list[str] = []

    def note(name: str) -> None:
        real = getattr(Library, name)

        async def noting(library: Library, *args: object, peer: str = "", **more: object) -> Any:  # noqa: ANN401 # of three
            told.append(peer)
            return await real(library, *args, peer=peer, **more)

        monkeypatch.setattr(Library, name, noting)

    for name in ("obtain", "sight", "sha256"):
        note(name)
    return told


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "192.0.2.1, 2001:db8::7"},
        {"Forwarded": 'for=192.0.2.1, for="[2001:db8::7]:4711";proto=https'},
        {"X-Real-IP": "2001:db8::7"},
    ],
    ids=lambda headers: next(iter(headers)),
)
@pytest.mark.parametrize("request_line", ["GET ", "HEAD ", "GET /name"])
@pytest.mark.parametrize("trusted", ["127.0.0.0/8", "none"])
async def test_a_request_is_counted_for_its_client(
    serve: Serve, sample: Sample, peers: list[str], *, request_line: str, trusted: str, headers: dict[str, str]
) -> None:
    site = await serve(files=sample.files, ready=True, PKGSERVER_TRUSTED_PROXIES=trusted)
    peers.clear()
    method, suffix = request_line.split(" ")
    answer = await site.client.request(method, sample.artifact.path + suffix, headers=headers)
    assert answer.status_code == 200
    assert peers[0] == ("127.0.0.1" if trusted == "none" else "2001:db8::/64")

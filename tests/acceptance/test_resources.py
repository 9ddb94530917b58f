"""Resources, whole and in part, from the cache and while they are being downloaded.

Answers of PkgServer.jl's tests: the Artifacts.toml of "Direct HTTP requests", "Skip-nonskip ambiguity testing" and
"Partial Content". Ours differ: a 416 says how long the resource is, HEAD downloads nothing, and what a storage server
delivers has to be what it is named by. "Package Installation" is in tests/integration, with a real client.
"""

from __future__ import annotations

import hashlib
import tomllib
from http.client import IncompleteRead
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from tests.acceptance.target import eventually, get_until_cached
from tests.web.tarball import Tarball, build_with_empty_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.acceptance.target import Target
    from tests.e2e.client import Client
    from tests.integration.storage import ScriptedStorage

#: More than any proxy holds back of an answer before it goes on.
LARGE = 400_000


@pytest.fixture
def resource(target: Target, request: pytest.FixtureRequest, client: Client) -> Tarball:
    """Return a resource: one that nobody asked for yet, or where there is no such thing a registry."""
    if target.storage is not None:
        offer: Callable[[int], Tarball] = request.getfixturevalue("fresh")
        return offer(3000)
    status, headers, body = client.ask("/registries")
    if status == 302:
        body = client.ask(headers["Location"])[2]
    path = body.decode().splitlines()[0]
    return Tarball(path, client.ask(path)[2])


def test_artifact_toml_names_the_artifact_as_this_server_has_it(
    target: Target, client: Client, fresh: Callable[[int], Tarball]
) -> None:
    artifact = fresh(3000)
    status, headers, body = client.ask(f"{artifact.path}/Xorg_xineramaproto")
    assert (status, headers["Content-Type"]) == (200, "application/toml")
    assert headers["Content-Disposition"] == "attachment; filename=Artifacts.toml"
    tables = tomllib.loads(body.decode())
    assert list(tables) == ["Xorg_xineramaproto"]
    assert tables["Xorg_xineramaproto"]["git-tree-sha1"] == artifact.path.rpartition("/")[2]
    [download] = tables["Xorg_xineramaproto"]["download"]
    assert download["sha256"] == hashlib.sha256(artifact.body).hexdigest()
    assert download["url"] == f"{target.public_url}{artifact.path}"


def test_artifact_with_an_empty_folder_is_served_under_either_of_its_names(
    client: Client, storage: ScriptedStorage
) -> None:
    names = build_with_empty_folder(uuid4().bytes)
    for tarball in names:
        storage.files[tarball.path] = tarball.body
        get_until_cached(client, tarball.path, tarball.body)
        assert client.ask(tarball.path, "HEAD")[0] == 200
    assert names[0].path != names[1].path


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("bytes=0-1023", 0, 1024),
        ("bytes=1024-", 1024, None),
        ("bytes=-2047", -2047, None),
        ("bytes=0-1000000000", 0, None),
        ("bytes=5-5", 5, 6),
    ],
)
def test_range_is_that_part_with_its_place_in_the_whole(
    client: Client, resource: Tarball, wanted: str, start: int, stop: int | None
) -> None:
    get_until_cached(client, resource.path, resource.body)
    size, part = len(resource.body), resource.body[start:stop]
    first = slice(start, stop).indices(size)[0]
    status, headers, body = client.ask(resource.path, Range=wanted)
    assert (status, body) == (206, part)
    assert headers["Content-Range"] == f"bytes {first}-{first + len(part) - 1}/{size}"
    assert headers["Content-Length"] == str(len(part))


@pytest.mark.parametrize("wanted", ["bytes=2-1", "bytes=1000000000-", "bytes=-0"])
def test_range_that_cannot_be_is_refused_with_the_size(client: Client, resource: Tarball, wanted: str) -> None:
    get_until_cached(client, resource.path, resource.body)
    status, headers, _ = client.ask(resource.path, Range=wanted)
    assert (status, headers["Content-Range"]) == (416, f"bytes */{len(resource.body)}")


def test_range_and_whole_are_sent_while_the_storage_server_still_delivers(
    target: Target, storage: ScriptedStorage, fresh: Callable[[int], Tarball]
) -> None:
    artifact = fresh(LARGE)
    size = len(artifact.body)
    with target.client() as first, target.client() as second, storage.held(artifact.path) as release:
        part = first.begin(artifact.path, Range="bytes=0-99999")
        assert (part.status, part.headers["Content-Range"]) == (206, f"bytes 0-99999/{size}")
        whole = second.begin(artifact.path)
        assert (whole.status, whole.headers["X-Cache-Miss"]) == (200, "miss")
        begun = part.read(50_000), whole.read(50_000)
        release.set()
        assert begun[0] + part.read() == artifact.body[:100_000]
        assert begun[1] + whole.read() == artifact.body
    assert storage.requests.count(f"GET {artifact.path}") == 1


def test_head_tells_of_what_is_not_cached_and_downloads_nothing(
    client: Client, storage: ScriptedStorage, fresh: Callable[[int], Tarball]
) -> None:
    artifact = fresh(3000)
    status, headers, body = client.ask(artifact.path, "HEAD")
    assert (status, headers["Content-Length"], body) == (200, str(len(artifact.body)), b"")
    assert f"HEAD {artifact.path}" in storage.requests
    assert f"GET {artifact.path}" not in storage.requests


def received(target: Target, path: str) -> bytes:
    """Return what came of the body, even if the answer broke off."""
    with target.client() as client:
        try:
            return client.ask(path)[2]
        except IncompleteRead as error:
            return error.partial
        except ConnectionError:
            return b""


def test_what_is_not_what_it_is_named_by_is_never_whole_and_never_cached(
    target: Target, storage: ScriptedStorage, fresh: Callable[[int], Tarball]
) -> None:
    artifact, other = fresh(3000), fresh(3000)
    storage.files[artifact.path] = other.body
    for _ in range(2):  # the second may be told at once of the failure of the first
        assert other.body not in received(target, artifact.path)
    assert not any((root / "cache" / artifact.path[1:]).exists() for root in target.roots)
    storage.files[artifact.path] = artifact.body
    eventually(lambda: received(target, artifact.path) == artifact.body)


def test_hits_are_validated_and_kept_by_caches(client: Client, resource: Tarball) -> None:
    get_until_cached(client, resource.path, resource.body)
    status, headers, _ = client.ask(resource.path)
    assert (status, headers["Cache-Control"]) == (200, "public, max-age=31536000, immutable")
    assert headers.get_all("Content-Type") == ["application/x-gzip"]
    assert headers["Accept-Ranges"] == "bytes"
    assert client.ask(resource.path, If_None_Match=headers["ETag"])[::2] == (304, b"")

"""Both mirrors before real origins, an S3 API server and a plain nginx: what clients get, and what they keep of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.acceptance.target import eventually
from tests.mirror.origins import KEYS, ORIGINS, running_origin
from tests.mirror.targets import CONFIRMED, FETCHED, PASSED, PATIENCE_SECONDS, STALE, TARGETS, Wishes, running_target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.mirror.origins import Origin

pytestmark = pytest.mark.integration

BODY = bytes(range(256)) * 800


@dataclass(frozen=True)
class Mirrored:
    """A mirror, by a client of a bucket in it, and the origin behind it; in the bucket `brief` all is soon over."""

    client: httpx.Client
    brief: httpx.Client
    origin: Origin

    def get(self, key: str, **headers: str) -> httpx.Response:
        return self.client.get(f"/{key}", headers=headers)

    def get_twice(self, key: str) -> httpx.Response:
        """Return the second answer, a hit: the first one is whole a moment before its object is in the cache."""
        first = self.get(key)
        assert (first.status_code, first.headers["X-Cache"] in FETCHED) == (200, True)
        eventually(lambda: self.get(key).headers["X-Cache"] == "HIT")
        second = self.get(key)
        assert (second.status_code, second.content == first.content) == (200, True)
        return second

    def get_over(self, key: str) -> httpx.Response:
        """Return the first answer of the bucket `brief` for which what was held was too old."""
        answers: list[httpx.Response] = []

        def is_over() -> bool:
            answers.append(self.brief.get(f"/{key}"))
            return answers[-1].headers["X-Cache"] not in {"HIT", "MISS"}

        eventually(is_over)
        return answers[-1]


@pytest.fixture(scope="module", params=ORIGINS)
def origin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    with running_origin(request.param, tmp_path_factory.mktemp("origin")) as origin:
        yield origin


@contextmanager
def client_of(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=PATIENCE_SECONDS, trust_env=False) as client:
        yield client


@contextmanager
def running_mirrored(kind: str, folder: Path, origin: Origin, wishes: Wishes | None = None) -> Iterator[Mirrored]:
    buckets = f"bucket={origin.url} brief={origin.url};ttl=1"
    with (
        running_target(kind, folder, buckets, wishes) as url,
        client_of(f"{url}/bucket") as client,
        client_of(f"{url}/brief") as brief,
    ):
        yield Mirrored(client, brief, origin)


@pytest.fixture(scope="module", params=TARGETS)
def mirrored(
    request: pytest.FixtureRequest, origin: Origin, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mirrored]:
    with running_mirrored(request.param, tmp_path_factory.mktemp("target"), origin) as mirrored:
        yield mirrored


@pytest.mark.parametrize("key", KEYS)
def test_an_object_is_got_once_and_is_then_there(mirrored: Mirrored, key: str) -> None:
    body = BODY + key.encode()
    mirrored.origin.put(key, body)
    assert mirrored.get_twice(KEYS[key]).content == body
    mirrored.origin.put(key, b"overwritten")
    for query in ("", "?x=1", "?response-content-type=text/html"):
        again = mirrored.get(KEYS[key] + query)
        assert (again.status_code, again.content == body, again.headers["X-Cache"]) == (200, True, "HIT")


def test_what_an_origin_says_of_an_object_is_kept(mirrored: Mirrored) -> None:
    mirrored.origin.put("told", BODY)
    direct = httpx.get(f"{mirrored.origin.url}/told", trust_env=False)
    for _ in range(2):
        for answer in (mirrored.get("told"), mirrored.client.head("/told")):
            assert answer.headers["Content-Length"] == str(len(BODY))
            assert "Set-Cookie" not in answer.headers
            for name in ("ETag", "Last-Modified", "Content-Type", "Content-Disposition", "x-amz-meta-who"):
                assert answer.headers[name] == direct.headers[name]
    assert [name for name in mirrored.get("told").headers if name.startswith("x-amz") and "meta" not in name] == []


def test_ranges_of_what_is_held_and_of_what_is_not(mirrored: Mirrored) -> None:
    mirrored.origin.put("part", BODY)
    ranges = {"bytes=0-99": (0, 100), "bytes=100-": (100, len(BODY)), "bytes=-500": (len(BODY) - 500, len(BODY))}
    for held in (False, True):
        for asked, (start, stop) in ranges.items():
            answer = mirrored.get("part", Range=asked)
            assert (answer.status_code, answer.content == BODY[start:stop]) == (206, True), (held, asked)
            assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(BODY)}"
            assert answer.headers.get("X-Cache") in (("HIT",) if held else PASSED)
        beyond = mirrored.get("part", Range=f"bytes={len(BODY)}-")
        assert beyond.status_code == 416
        if held:
            assert beyond.headers["Content-Range"] == f"bytes */{len(BODY)}"  # moto does not say so
        else:
            mirrored.get_twice("part")  # no range has brought anything here


def test_conditions_of_clients(mirrored: Mirrored) -> None:
    mirrored.origin.put("conditions", BODY)
    tag = mirrored.get("conditions").headers["ETag"]
    same = mirrored.get("conditions", **{"If-None-Match": tag})
    assert (same.status_code, same.headers["ETag"], same.content) == (304, tag, b"")
    other = mirrored.get("conditions", **{"If-None-Match": '"x"'})
    assert (other.status_code, other.content == BODY) == (200, True)
    part = mirrored.get("conditions", **{"Range": "bytes=5-9", "If-Range": tag})
    assert (part.status_code, part.content) == (206, BODY[5:10])
    whole = mirrored.get("conditions", **{"Range": "bytes=5-9", "If-Range": '"x"'})
    assert (whole.status_code, whole.content == BODY) == (200, True)


def test_an_object_of_no_bytes(mirrored: Mirrored) -> None:
    mirrored.origin.put("zero", b"")
    answer = mirrored.get_twice("zero")
    assert (answer.content, answer.headers["Content-Length"]) == (b"", "0")


def test_what_is_private_or_not_there_is_told(mirrored: Mirrored) -> None:
    mirrored.origin.put("private", b"secret", private=True)
    for key, status in (("private", 403), ("nothing", 404)):
        for ask in (mirrored.client.get, mirrored.client.head):
            answer = ask(f"/{key}")
            assert (answer.status_code, b"secret" in answer.content) == (status, False)


def test_a_head_fetches_nothing_and_knows_the_tag(mirrored: Mirrored) -> None:
    """As juliaup asks about a nightly."""
    mirrored.origin.put("nightly", BODY)
    head = mirrored.client.head("/nightly")
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(BODY)))
    got = mirrored.get("nightly")
    assert got.headers["X-Cache"] in FETCHED
    assert head.headers["ETag"] == got.headers["ETag"]


def test_fifty_clients_get_the_same(mirrored: Mirrored) -> None:
    body = BODY * 5
    mirrored.origin.put("popular", body)
    before = mirrored.origin.answered("popular")
    with ThreadPoolExecutor(max_workers=50) as pool, ExitStack() as stack:
        clients = [stack.enter_context(client_of(str(mirrored.client.base_url))) for _ in range(50)]
        received = list(pool.map(lambda client: client.get("/popular").content == body, clients))
    assert received == [True] * 50
    assert mirrored.origin.answered("popular") == [*before, 200]


def test_what_is_over_is_confirmed_by_the_origin_or_fetched_anew(mirrored: Mirrored) -> None:
    mirrored.origin.put("changing", b"old")
    before = mirrored.origin.answered("changing")
    assert mirrored.brief.get("/changing").headers["X-Cache"] in FETCHED
    same = mirrored.get_over("changing")
    assert (same.content, same.headers["X-Cache"] in CONFIRMED) == (b"old", True)
    assert mirrored.origin.answered("changing").count(200) == before.count(200) + 1
    mirrored.origin.put("changing", b"newer")
    newer = mirrored.get_over("changing")
    assert (newer.content, newer.headers["X-Cache"] in FETCHED) == (b"newer", True)


def test_juliaup_finds_its_way(mirrored: Mirrored) -> None:
    version = "1.0.50+0"
    path = "bin/linux/x64/1.11/julia-1.11.2-linux-x86_64.tar.gz"
    database = f"juliaup/versiondb/versiondb-{version}-x86_64-unknown-linux-gnu.json"
    mirrored.origin.put("juliaup/RELEASECHANNELVERSION", b"1.17.4")
    mirrored.origin.put("juliaup/RELEASECHANNELDBVERSION", version.encode())
    mirrored.origin.put(database, path.encode())
    mirrored.origin.put(path, BODY)
    for _ in range(2):
        assert mirrored.get("juliaup/RELEASECHANNELVERSION").text == "1.17.4"
        online = mirrored.get("juliaup/RELEASECHANNELDBVERSION").text
        found = mirrored.get(f"juliaup/versiondb/versiondb-{online}-x86_64-unknown-linux-gnu.json").text
        assert mirrored.get(found).content == BODY
    nightly = "bin/linux/x86_64/julia-latest-linux-x86_64.tar.gz"
    mirrored.origin.put(nightly, BODY + b"nightly")
    installed = mirrored.get(nightly)
    assert mirrored.client.head(f"/{nightly}").headers["ETag"] == installed.headers["ETag"]


def test_jill_finds_its_way(mirrored: Mirrored) -> None:
    path = "bin/linux/x64/1.10/julia-1.10.7-linux-x86_64.tar.gz"
    mirrored.origin.put("bin/versions.json", path.encode())
    mirrored.origin.put(path, BODY)
    mirrored.origin.put(f"{path}.asc", b"signed")
    for _ in range(2):
        found = mirrored.get("bin/versions.json").text
        assert (mirrored.get(found).content == BODY, mirrored.get(f"{found}.asc").text) == (True, "signed")


@pytest.mark.parametrize("kind", ORIGINS)
def test_what_is_held_does_not_need_the_origin(kind: str, tmp_path: Path) -> None:
    wishes = Wishes(stale_if_error_seconds=600)
    with ExitStack() as stack:
        origin = stack.enter_context(running_origin(kind, tmp_path / "origin"))
        origin.put("held", BODY)
        mirrors = [
            stack.enter_context(running_mirrored(target, tmp_path / target, origin, wishes)) for target in TARGETS
        ]
        for mirrored in mirrors:
            assert mirrored.get_twice("held").content == BODY
            assert mirrored.brief.get("/held").content == BODY
        origin.stop()
        for mirrored in mirrors:
            answer = mirrored.get("held")
            assert (answer.status_code, answer.content == BODY, answer.headers["X-Cache"]) == (200, True, "HIT")
            stale = mirrored.get_over("held")
            assert (stale.status_code, stale.content == BODY, stale.headers["X-Cache"] in STALE) == (200, True, True)
            gone = mirrored.get("never-asked-for")
            assert gone.status_code in {502, 504}
            assert gone.headers["Retry-After"]

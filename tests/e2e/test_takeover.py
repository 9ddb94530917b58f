"""A storage folder that PkgServer.jl has used, taken over by the zipapp as it is.

What that server leaves: `cache/` with everything that storage servers ever sent it, right or not; `static/`, where each
list of registries is a plain file, and one of the time before there were flavors may be left; `temp/` with what a
killed server was downloading, each file named like its resource, and `.inprogress`; `logs/` with a file for each hour.
"""

from __future__ import annotations

import gzip
import json
import re
import socket
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest
from tests.acceptance.target import connected, eventually, get_until_cached
from tests.integration.storage import open_storage
from tests.integration.zipapp import running_zipapp
from tests.lofts import files_in
from tests.web.tarball import build_tarball

from pkgserver_trio.demo.sample import build_sample
from pkgserver_trio.logs.names import log_name

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.e2e.client import Client

OLDER, SAMPLE = build_sample(), build_sample(generation=2)
LARGE, MIXED_UP, PAGE = (build_tarball(300_000, seed) for seed in (b"large", b"mixed up", b"page"))
CONSERVATIVE, EAGER = (f"{head.registry.path}\n".encode() for head in (OLDER, SAMPLE))
FILES = {
    **SAMPLE.files,
    **{tarball.path: tarball.body for tarball in (LARGE, MIXED_UP, PAGE)},
    "/registries.conservative": CONSERVATIVE,
}
ARTIFACT = SAMPLE.artifact.path
PACKAGES = [package.path for package in SAMPLE.packages]
RIGHT = [OLDER.registry.path, SAMPLE.registry.path, LARGE.path, *PACKAGES[:3]]
EMPTY, TRUNCATED = PACKAGES[3:]
#: As it is in the cache.
DAMAGED = {
    EMPTY: b"",
    TRUNCATED: FILES[TRUNCATED][:-20],
    ARTIFACT: FILES[ARTIFACT][:100_000] + bytes([FILES[ARTIFACT][100_000] ^ 1]) + FILES[ARTIFACT][100_001:],
    MIXED_UP.path: LARGE.body,
    PAGE.path: b"<html>503 Slow Down</html>",
}
HASH = LARGE.path.rpartition("/")[2]
#: What is no resource by its name and place, though it may be one by its content; by path in the storage folder.
FOREIGN = {
    f"cache/{HASH}": LARGE.body,
    f"cache/package/{HASH}": LARGE.body,
    f"cache{LARGE.path}.bak": LARGE.body,
    "cache/artifact/.directory": b"of a file manager",
    "cache/README": b"of an operator",
    "static/registries": CONSERVATIVE,
    "notes.txt": b"of an operator",
}
LEFTOVERS = [f"temp{PAGE.path}.inprogress", f"temp{PACKAGES[0]}.inprogress", "temp/registries.tmp.pX3kQz9a"]
LOG = log_name(time.time() - 3600)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a storage folder as another server left it."""
    root = tmp_path / "store"
    left: dict[str, bytes] = {
        **{f"cache{path}": FILES[path] for path in RIGHT},
        **{f"cache{path}": body for path, body in DAMAGED.items()},
        **FOREIGN,
        "static/registries.eager": EAGER,
        "static/registries.conservative": CONSERVATIVE,
        **dict.fromkeys(LEFTOVERS, b"unfinished"),
        f"logs/{LOG}": b"[ Info: server listening\n",
    }
    for name, body in left.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(body)
    (root / "cache" / "lost+found").mkdir(mode=0o700)
    for path, mode in zip(RIGHT, (0o400, 0o444, 0o600, 0o640, 0o666, 0o777), strict=True):
        (root / f"cache{path}").chmod(mode)
    return root


def cached(client: Client) -> dict[str, tuple[int, int]]:
    """Return how many files of each kind are in the cache, and how many bytes, as the server has it."""
    pattern = r'^pkgserver_cached_resource_{}{{resource_type="(.*)"}} (.*)$'
    text = client.ask("/metrics")[2].decode()
    files, sizes = (dict(re.findall(pattern.format(what), text, re.MULTILINE)) for what in ("files", "bytes"))
    stats = read_stats(client)
    assert (stats["packages_cached"], stats["artifacts_cached"]) == (float(files["package"]), float(files["artifact"]))
    return {kind: (int(float(files[kind])), int(float(sizes[kind]))) for kind in files}


def read_stats(client: Client) -> dict[str, Any]:
    stats: dict[str, Any] = json.loads(client.ask("/meta/stats")[2])
    return stats


def in_all(paths: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Return how many resources of each kind there are, and how many bytes of them."""
    sizes = defaultdict[str, list[int]](list)
    for path in paths:
        sizes[path.split("/")[1]].append(len(FILES[path]))
    return {kind: (len(each), sum(each)) for kind, each in sizes.items()}


def assert_left_alone(root: Path) -> None:
    """Check what is nobody's business but the operator's, and the log of the hour before."""
    for name, body in FOREIGN.items():
        assert (root / name).read_bytes() == body
    assert (root / "cache" / "lost+found").is_dir()
    eventually((root / "logs" / f"{LOG}.gz").exists)
    assert gzip.decompress((root / "logs" / f"{LOG}.gz").read_bytes()) == b"[ Info: server listening\n"


def test_what_is_right_is_served_and_counted_and_nothing_else_with_no_storage_server(
    tmp_path: Path, root: Path
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        settings = {"JULIA_PKG_SERVER_STORAGE_SERVERS": f"http://127.0.0.1:{closed.getsockname()[1]}"}
        with running_zipapp(tmp_path, settings) as server, connected(server.url) as client:
            for path in DAMAGED:  # before the server has looked at them all by itself
                status, headers, body = client.ask(path)
                assert (status, headers["Cache-Control"]) == (502, "no-store"), body
            for path in RIGHT:
                status, headers, body = client.ask(path)
                assert (status, headers["X-Cache-Miss"]) == (200, None)
                assert body == FILES[path]
            eventually(lambda: cached(client) == in_all(RIGHT))
            stats = read_stats(client)
            assert {f"/{name}": use["num_accessed"] for name, use in stats["lru"].items()} == dict.fromkeys(RIGHT, 1)
            assert stats["cached_hits"] == len(RIGHT)
            assert client.ask("/registries")[1]["Location"] == "/registries.conservative"
            assert client.ask("/registries.conservative")[2] == CONSERVATIVE
            assert client.ask("/registries.eager")[2] == EAGER
            for path in (f"/{HASH}", f"/package/{HASH}", f"{LARGE.path}.bak", "/artifact/.directory"):
                assert client.ask(path)[0] == 404
            assert files_in(root / "temp") == set()
            assert_left_alone(root)
    quarantined = {f"/{name}": (root / "quarantine" / name).read_bytes() for name in files_in(root / "quarantine")}
    assert quarantined == DAMAGED


def test_what_is_damaged_is_fetched_again_and_nothing_else_with_a_storage_server(tmp_path: Path, root: Path) -> None:
    with open_storage(FILES) as storage:
        settings = {"JULIA_PKG_SERVER_STORAGE_SERVERS": storage.url}
        with running_zipapp(tmp_path, settings) as server, connected(server.url) as client:
            for path in (*DAMAGED, *RIGHT):
                get_until_cached(client, path, FILES[path])
            assert cached(client) == in_all([*DAMAGED, *RIGHT])
            assert_left_alone(root)
        fetched = [request for request in storage.requests if not request.startswith("GET /registries")]
        assert sorted(fetched) == sorted(f"{method} {path}" for method in ("GET", "HEAD") for path in DAMAGED)
    assert {f"/{name}" for name in files_in(root / "quarantine")} == set(DAMAGED)

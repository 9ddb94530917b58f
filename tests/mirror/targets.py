"""The two mirrors that one suite is for, nginx's and the server's own, and the origins that are real servers."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import httpx
from tests.conftest import require
from tests.deployment.front_end.running import PLAIN, running_front_end, running_small
from tests.integration.zipapp import running_zipapp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TARGETS: Final = ("nginx", "server")
ORIGINS: Final = ("moto", "nginx")
BUCKET: Final = "julia-test"
#: A client of the suite waits no longer for anything.
PATIENCE_SECONDS: Final = 30
#: What both call alike: the object was not held, or not asked for before, and was got from its origin.
FETCHED: Final = ("MISS", "EXPIRED")
#: The origin has said that what is held is what there is.
CONFIRMED: Final = ("REVALIDATED",)
#: What was held was served, and the origin is asked beside that, or could not be.
STALE: Final = ("STALE", "UPDATING")
#: Nothing of it was kept. nginx says MISS of what it passes through, and of ranges nothing at all.
PASSED: Final = ("BYPASS", "MISS", None)
#: No storage server is asked by anything here.
_NOBODY: Final = "127.0.0.1:9"
_SIGNED: Final = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=x/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
}
_STARTS: Final = 300


@dataclass(frozen=True)
class Wishes:
    """What both can be told, in their own settings; seconds."""

    ttl_seconds: int = 3600
    stale_while_revalidate_seconds: int = 0
    stale_if_error_seconds: int = 0
    pointers: str = "bin/versions.json *CHANNELVERSION *CHANNELDBVERSION"


@contextmanager
def running_target(kind: str, folder: Path, origin_url: str, wishes: Wishes | None = None) -> Iterator[str]:
    """Run a mirror of `BUCKET`, which is at `origin_url`; yield the URL of the bucket in it."""
    wishes = wishes or Wishes()
    times = {
        "STALE_WHILE_REVALIDATE_SECONDS": str(wishes.stale_while_revalidate_seconds),
        "STALE_IF_ERROR_SECONDS": str(wishes.stale_if_error_seconds),
    }
    buckets = f"{BUCKET}={origin_url};ttl={wishes.ttl_seconds}"
    if kind == "nginx":
        require("nginx", available=shutil.which("nginx") is not None, how_to_get="apt-get install nginx-light")
        settings = {f"S3_MIRROR_{name}": value for name, value in times.items()}
        settings |= {"S3_MIRROR_BUCKET_LIST": buckets, "S3_MIRROR_POINTERS": wishes.pointers, "S3_MIRROR_MIN_FREE": "0"}
        stores = [folder / "store1", folder / "store2"]
        with running_front_end(folder / "front", stores, [_NOBODY, _NOBODY], {**PLAIN, **settings}) as front_end:
            yield f"{front_end.url}/mirror/{BUCKET}"
    else:
        settings = {f"PKGSERVER_MIRROR_{name}": value for name, value in times.items()}
        settings |= {
            "PKGSERVER_MIRROR_BUCKETS": buckets,
            "PKGSERVER_MIRROR_POINTERS": wishes.pointers.replace(" ", ","),
            "JULIA_PKG_SERVER_STORAGE_SERVERS": f"http://{_NOBODY}",
            "PKGSERVER_KEEP_FREE": "0",
            "PKGSERVER_HEAD_SECONDS": "3",
            "PKGSERVER_BODY_SECONDS": "3",
        }
        with running_zipapp(folder, settings) as server:
            yield f"{server.url}/mirror/{BUCKET}"


@dataclass
class Origin:
    """A real server, `process`, that has a bucket at `url`; of a plain one the objects are files in `bucket`."""

    url: str
    process: subprocess.Popen[bytes]
    bucket: Path | None = None

    def stop(self) -> None:
        """Have it answer nobody any more."""
        self.process.terminate()
        self.process.wait()

    def put(self, key: str, body: bytes, *, kind: str = "application/x-test", private: bool = False) -> None:
        """Have an object there; `key` is not encoded."""
        if self.bucket is None:
            headers = {**_SIGNED, "Content-Type": kind, "x-amz-meta-who": "the suite"}
            headers |= {} if private else {"x-amz-acl": "public-read"}
            answer = httpx.put(f"{self.url}/{quote(key)}", content=body, headers=headers, trust_env=False)
            assert answer.status_code == 200, answer.text
            return
        file = self.bucket / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)


@contextmanager
def running_origin(kind: str, folder: Path) -> Iterator[Origin]:
    """Run an origin with an empty bucket."""
    with _running_moto() if kind == "moto" else _running_files(folder) as origin:
        yield origin


@contextmanager
def _running_moto() -> Iterator[Origin]:
    found = importlib.util.find_spec("moto") is not None
    require("moto", available=found, how_to_get="python -m pip install -r requirements-dev.lock")
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = subprocess.DEVNULL
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    with subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet) as process:
        try:
            url = f"http://127.0.0.1:{port}/{BUCKET}"
            _make_bucket(url, process)
            yield Origin(url, process)
        finally:
            process.kill()


def _make_bucket(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(_STARTS):
        assert process.poll() is None
        with contextlib.suppress(httpx.TransportError):
            assert httpx.put(url, headers=_SIGNED, trust_env=False).status_code == 200
            return
        time.sleep(0.05)  # another process tells of no event
    raise AssertionError("moto does not start")


@contextmanager
def _running_files(folder: Path) -> Iterator[Origin]:
    """Serve files by a plain nginx, to which those are private that are called so."""
    require("nginx", available=shutil.which("nginx") is not None, how_to_get="apt-get install nginx-light")
    (folder / "bucket").mkdir(parents=True)
    lines = f"""
        location / {{
            root {folder}/bucket;
            types {{ }}
            default_type application/x-test;
            location ~ /private {{ return 403; }}
        }}"""
    with running_small(folder / "nginx", lines) as (url, process):
        yield Origin(url, process, folder / "bucket")

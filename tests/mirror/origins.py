"""The origins of the suite that are real servers: an S3 API server, and a plain nginx that serves files."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import httpx
from tests.conftest import require
from tests.deployment.front_end.running import running_small
from tests.mirror.ports import reserved_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ORIGINS: Final = ("moto", "nginx")
BUCKET: Final = "julia-test"
#: Keys as they are, and as clients write them.
KEYS = {
    "plain": "plain",
    "bin/linux/x64/1.10/julia-1.10.4-linux-x86_64.tar.gz": "bin/linux/x64/1.10/julia-1.10.4-linux-x86_64.tar.gz",
    "with some spaces": "with%20some%20spaces",
    "1.9.0+0.x64": "1.9.0+0.x64",
    "1.9.1+0.x64": "1.9.1%2B0.x64",
    "below/a slash": "below%2Fa%20slash",
    "Ünïcödé/日本語": "%C3%9Cn%C3%AFc%C3%B6d%C3%A9/%E6%97%A5%E6%9C%AC%E8%AA%9E",
    "(it's) [fine]!~*@:;,=&$": "(it's)%20%5Bfine%5D!~*@:;,=&$",
}
#: moto looks at no signature unless it is told to, only whether there is one: what has none is anonymous.
_SIGNED: Final = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=x/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
}
#: What both say of each object.
_TOLD: Final = {"x-amz-meta-who": "the suite", "Content-Disposition": "attachment"}
_STARTS: Final = 300


@dataclass(frozen=True)
class Origin:
    """A real server, `process`, that has a bucket at `url` and notes requests in `log`.

    The objects of a plain one are files in `bucket`.
    """

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    bucket: Path | None = None

    def stop(self) -> None:
        """Have it answer nobody any more."""
        self.process.terminate()
        self.process.wait()

    def put(self, key: str, body: bytes, *, private: bool = False) -> None:
        """Have an object there; `key` is not encoded."""
        if self.bucket is None:
            headers = {**_SIGNED, **_TOLD, "Content-Type": "application/x-test"}
            headers |= {} if private else {"x-amz-acl": "public-read"}
            answer = httpx.put(f"{self.url}/{quote(key)}", content=body, headers=headers, trust_env=False)
            assert answer.status_code == 200, answer.text
            return
        file = self.bucket / key
        file.parent.mkdir(parents=True, exist_ok=True)
        written = file.with_name(".written")
        written.write_bytes(body)
        written.replace(file)  # as a store of objects does: nobody sees half of it

    def answered(self, key: str) -> list[int]:
        """Return the statuses of its answers to GET so far; `key` needs no encoding."""
        path = re.escape(httpx.URL(f"{self.url}/{key}").path)
        pattern = rf'"(?:\x1b\[\d+m)*GET {path} HTTP/1\.\d(?:\x1b\[0m)?" (\d+)'
        return [int(status) for status in re.findall(pattern, self.log.read_text("utf-8"))]


@contextmanager
def running_origin(kind: str, folder: Path) -> Iterator[Origin]:
    """Run an origin with an empty bucket."""
    folder.mkdir(parents=True, exist_ok=True)
    with _running_moto(folder) if kind == "moto" else _running_files(folder) as origin:
        yield origin


@contextmanager
def _running_moto(folder: Path) -> Iterator[Origin]:
    found = importlib.util.find_spec("moto") is not None
    require("moto", available=found, how_to_get="python -m pip install -r requirements-dev.lock")
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    log = folder / "asked"
    with reserved_port() as port, log.open("wb") as file:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        with subprocess.Popen(command, env=environment, stdout=file, stderr=file) as process:
            try:
                url = f"http://127.0.0.1:{port}/{BUCKET}"
                _make_bucket(url, process)
                yield Origin(url, process, log)
            finally:
                process.kill()


def _make_bucket(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(_STARTS):
        assert process.poll() is None
        with suppress(httpx.TransportError):
            assert httpx.put(url, headers=_SIGNED, trust_env=False).status_code == 200
            return
        time.sleep(0.05)  # another process tells of no event
    raise AssertionError("moto does not start")


@contextmanager
def _running_files(folder: Path) -> Iterator[Origin]:
    """Serve files by a plain nginx, to which those are private that are called so."""
    require("nginx", available=shutil.which("nginx") is not None, how_to_get="apt-get install nginx-light")
    (folder / "bucket").mkdir()
    told = "".join(f'add_header {name} "{value}";' for name, value in _TOLD.items())
    lines = f"""
        access_log {folder}/asked combined;
        location / {{
            root {folder}/bucket;
            types {{ }}
            default_type application/x-test;
            {told}
            location ~ /private {{ return 403; }}
        }}"""
    with running_small(folder / "nginx", lines) as (url, process):
        yield Origin(url, process, folder / "asked", folder / "bucket")

"""A real nginx that serves the cache of a store, and logs what it served, as docs/operating.md says."""

from __future__ import annotations

import getpass
import re
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conftest import require

if TYPE_CHECKING:
    from collections.abc import Iterator

OPERATING = Path(__file__).parents[2] / "docs" / "operating.md"
#: `log_format`, and the location that uses it; its folders and addresses are the test's.
LOG_FORMAT = r"^log_format pkgserver_hits [^\n]*;$"
LOCATION = r"^location ~ .*?^}$"

CONFIGURATION = """
daemon off;
user {user};
worker_processes 2;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    access_log off;
    {log_format}
    server {{
        listen unix:{folder}/socket;
        {location}
        location @pkgserver {{ proxy_pass {upstream}; }}
    }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """A running nginx: the socket it listens on, the log of its hits."""

    process: subprocess.Popen[bytes]
    socket: Path
    log: Path


def documented(pattern: str) -> str:
    """Return the part of the documented configuration that matches."""
    found = re.search(pattern, OPERATING.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[0]


@contextmanager
def running_nginx(folder: Path, root: Path, upstream: str, *, buffer: str = "64k") -> Iterator[Nginx]:
    """Run nginx before the store `root` and the server at `upstream`; `buffer` is what it holds back of its log."""
    require("nginx", available=shutil.which("nginx") is not None, how_to_get="apt-get install nginx-light")
    folder.mkdir()
    log = folder / "hits.log"
    location = (
        documented(LOCATION).replace("/srv/pkgserver", str(root)).replace("/var/log/pkgserver/hits.log", str(log))
    )
    assert "buffer=64k" in location
    text = CONFIGURATION.format(
        user=getpass.getuser(),
        folder=folder,
        log_format=documented(LOG_FORMAT),
        location=location.replace("buffer=64k", f"buffer={buffer}"),
        upstream=upstream,
    )
    (folder / "nginx.conf").write_text(text)
    command = ["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder), "-e", str(folder / "error.log")]
    with subprocess.Popen(command) as process:
        try:
            yield Nginx(process, folder / "socket", log)
        finally:
            process.terminate()
            process.wait(timeout=20)

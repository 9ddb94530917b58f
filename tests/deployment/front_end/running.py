"""The front end's own configuration, run by an nginx of this machine: other folders, ports and addresses.

1. The listening sockets are opened here and inherited by nginx, so no other process can take their ports.
2. Debian's nginx may be older than `http2 on` (1.25.1), and is then told of HTTP/2 in the way of its time.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from uuid import NAMESPACE_URL, uuid5

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

CONFIGURATION: Final = Path(__file__).parents[3] / "compose" / "nginx"
PORTS: Final = (80, 443, 8000)
PLAIN: Final = MappingProxyType({"PKG_SERVER_FQDN": "pkg.example.org", "DISABLE_TLS": "1"})
HTTP2_ON: Final = (1, 25, 1)
_LISTEN: Final = re.compile(r"^ *listen (?P<ipv6>\[::\]:)?(?P<port>\d+)(?P<rest>.*)$", re.MULTILINE)


@dataclass(frozen=True)
class FrontEnd:
    """A running front end; `ports` are its real ones, by those of the stack."""

    process: subprocess.Popen[bytes]
    folder: Path
    ports: Mapping[int, int]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[8000]}"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"


def write_conf(folder: Path, settings: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Have `write-conf` write what `settings` say to `folder`, with nothing else in its environment."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["sh", str(CONFIGURATION / "write-conf"), str(folder), str(folder.parent / "authorities")]
    environment = {"PATH": "/usr/bin:/bin", **settings}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def nginx_version() -> tuple[int, ...]:
    said = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr
    return tuple(int(part) for part in re.findall(r"\d+", said)[:3])


def adapt(text: str, folder: Path, places: Mapping[str, str], ports: Mapping[int, int]) -> str:
    """Return a part of the configuration with the places of this machine."""
    known = {
        "/etc/pkgserver-nginx/": f"{folder}/etc/",
        # Names of sockets are short.
        "/tmp/mirror.sock": str(Path(tempfile.gettempdir()) / f"mirror-{uuid5(NAMESPACE_URL, str(folder)).hex}.sock"),  # noqa: S108
        "/var/cache/mirror": f"{folder}/mirror",
        "/tmp/": f"{folder}/tmp/",  # noqa: S108 # the stack's, which is replaced
        "/logs/": f"{folder}/logs/",
        "/hits/": f"{folder}/hits/",
        "/var/www/letsencrypt": f"{folder}/webroot",
        # Nobody waits for a log.
        "buffer=32k flush=5s": "buffer=1k flush=10ms",
        "buffer=64k flush=1s": "buffer=1k flush=10ms",
        **places,
    }
    pattern = "|".join(re.escape(place) for place in known)
    text = re.sub(pattern, lambda match: known[match[0]], text)
    if nginx_version() < HTTP2_ON:
        text = text.replace("    http2 on;\n", "").replace(" ssl default_server", " ssl http2 default_server")
    return _LISTEN.sub(
        lambda match: "" if match["ipv6"] else f"    listen 127.0.0.1:{ports[int(match['port'])]}{match['rest']}",
        text,
    )


def lay_out(folder: Path, settings: Mapping[str, str], places: Mapping[str, str], ports: Mapping[int, int]) -> Path:
    """Write the whole configuration below `folder`; return its main file."""
    for name in ("tmp", "logs", "hits/1", "hits/2", "webroot", "mirror"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    written = write_conf(folder / "etc" / "conf.d", settings)
    assert written.returncode == 0, written.stderr
    parts = [(path, folder / "etc" / path.name) for path in CONFIGURATION.glob("*.conf")]
    parts += [(path, path) for path in (folder / "etc" / "conf.d").iterdir()]
    for source, target in parts:
        target.write_text(adapt(source.read_text("utf-8"), folder, places, ports), "utf-8")
    return folder / "etc" / "nginx.conf"


@contextmanager
def running_front_end(
    folder: Path,
    stores: Sequence[Path],
    servers: Sequence[str],
    settings: Mapping[str, str] = PLAIN,
    places: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[FrontEnd]:
    """Run the front end before `servers` (`host:port`), whose stores are `stores`."""
    places = {
        **{f"/stores/{number}/": f"{store}/" for number, store in enumerate(stores, 1)},
        "/stores;": f"{folder}/stores;",
        **{f"pkgserver{number}:8000": server for number, server in enumerate(servers, 1)},
        **places,
    }
    with ExitStack() as stack:
        sockets = {port: stack.enter_context(socket.create_server(("127.0.0.1", 0))) for port in PORTS}
        ports = {port: held.getsockname()[1] for port, held in sockets.items()}
        main = lay_out(folder, settings, places, ports)
        (folder / "stores").mkdir()
        for number, store in enumerate(stores, 1):
            (folder / "stores" / str(number)).symlink_to(store)
        used = "".join(path.read_text("utf-8") for path in main.parent.glob("conf.d/*.conf"))
        inherited = [held for port, held in sockets.items() if f"listen 127.0.0.1:{ports[port]}" in used]
        process = stack.enter_context(running_nginx(folder, main, inherited))
        for held in sockets.values():
            held.close()
        yield FrontEnd(process, folder, ports)


def check_configuration(
    folder: Path, settings: Mapping[str, str], places: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Have nginx look at the configuration that `settings` make."""
    with ExitStack() as stack:
        sockets = {port: stack.enter_context(socket.create_server(("127.0.0.1", 0))) for port in PORTS}
        main = lay_out(folder, settings, places, {port: held.getsockname()[1] for port, held in sockets.items()})
    command = ["nginx", "-t", "-p", str(folder), "-c", str(main), "-e", "stderr"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


FAULTY: Final = """
pid {folder}/pid;
events {{ }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    access_log off;
    server {{
        listen 127.0.0.1:{port};
        {lines}
    }}
}}
"""


@contextmanager
def running_faulty(folder: Path, lines: str, wrapper: Sequence[str] = ()) -> Iterator[str]:
    """Run an nginx whose only server block holds `lines`, the idea of another configuration; yield its URL."""
    with running_small(folder, lines, wrapper) as (url, _):
        yield url


@contextmanager
def running_small(
    folder: Path, lines: str, wrapper: Sequence[str] = ()
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run an nginx whose only server block holds `lines`; yield its URL and its process."""
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        main = folder / "nginx.conf"
        main.write_text(FAULTY.format(folder=folder, port=port, lines=lines), "utf-8")
        with running_nginx(folder, main, [held], wrapper) as process:
            held.close()
            yield f"http://127.0.0.1:{port}", process


@contextmanager
def running_nginx(
    folder: Path, main: Path, inherited: Sequence[socket.socket], wrapper: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Run nginx with the configuration `main`, by the command `wrapper` if any; its log is `folder`/error.log.

    It takes the `inherited` sockets for its own of an earlier life, as they are: where one blocks, so does the worker
    that another was faster than, until there is a next client.
    """
    for held in inherited:
        held.settimeout(0)
    descriptors = [held.fileno() for held in inherited]
    # As root, its workers would be somebody who may not look into the folders of tests.
    options = "daemon off; user root;" if os.geteuid() == 0 else "daemon off;"
    command = [*wrapper, "nginx", "-p", str(folder), "-c", str(main), "-e", "stderr", "-g", options]
    environment = {**os.environ, "NGINX": "".join(f"{descriptor};" for descriptor in descriptors)}
    with (
        (folder / "error.log").open("wb") as log,
        subprocess.Popen(command, env=environment, pass_fds=descriptors, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=20)

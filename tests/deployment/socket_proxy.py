"""The socket proxies' own configuration, run by an nginx of this machine before an engine that only writes down."""

from __future__ import annotations

import re
import socket
import socketserver
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Final

from tests.deployment.front_end.running import running_nginx
from tests.deployment.stack import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIGURATION: Final = ROOT / "compose" / "socket-proxy"
CLIENTS: Final = ("watchtower", "autoheal")
_ANSWER: Final = b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 2\r\n\r\nok"


@dataclass(frozen=True)
class Proxy:
    """A running socket proxy: it listens on `port`, and `calls` are what came through, whole requests."""

    port: int
    folder: Path
    calls: list[bytes] = field(default_factory=list)

    def send(self, request: bytes, *, by_socket: bool = False) -> bytes:
        """Send bytes, and return all that comes back."""
        connection: socket.socket
        if by_socket:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(self.folder / "run" / "docker.sock"))
        else:
            connection = socket.create_connection(("127.0.0.1", self.port))
        with connection:
            connection.settimeout(10)
            connection.sendall(request)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def call(self, method: str, path: str, body: bytes = b"") -> int:
        """Make a call; return the status."""
        head = f"{method} {path} HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        return int(self.send(head.encode() + body).split(b" ", 2)[1])


def lay_out(folder: Path, client: str, port: int) -> Path:
    """Write the configuration of the proxy for `client` below `folder`; return its main file."""
    (folder / "tmp").mkdir()
    (folder / "run").mkdir()
    for source, name in (("nginx.conf", "nginx.conf"), ("pass.inc", "pass.inc"), (f"{client}.conf", "tmp/client.conf")):
        text = (CONFIGURATION / source).read_text("utf-8")
        text = text.replace("/tmp/", f"{folder}/tmp/")  # noqa: S108 # the container's, which is replaced
        text = text.replace("/var/run/docker.sock", f"{folder}/engine.sock")
        text = text.replace("/run/engine/docker.sock", f"{folder}/run/docker.sock")
        text = text.replace("/dev/stdout", f"{folder}/refused.log")
        (folder / name).write_text(re.sub(r"listen (127\.0\.0\.1:)?2375;", f"listen 127.0.0.1:{port};", text), "utf-8")
    return folder / "nginx.conf"


@contextmanager
def running_proxy(client: str) -> Iterator[Proxy]:
    """Run the proxy for `client`."""
    with (
        tempfile.TemporaryDirectory(prefix="proxy-") as name,  # sockets have short names only
        socket.create_server(("127.0.0.1", 0)) as held,
    ):
        proxy = Proxy(held.getsockname()[1], Path(name))
        main = lay_out(proxy.folder, client, proxy.port)
        with _writing_engine(proxy), running_nginx(proxy.folder, main, [held]):
            held.close()
            yield proxy


@contextmanager
def _writing_engine(proxy: Proxy) -> Iterator[None]:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            lines = list(iter(self.rfile.readline, b"\r\n"))
            lengths = [int(line[15:]) for line in lines if line.lower().startswith(b"content-length:")]
            body = self.rfile.read(sum(lengths))
            proxy.calls.append(b"".join(lines) + b"\r\n" + body)
            self.wfile.write(_ANSWER)

    with socketserver.ThreadingUnixStreamServer(str(proxy.folder / "engine.sock"), Handler) as server:
        (proxy.folder / "engine.sock").chmod(0o666)
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()

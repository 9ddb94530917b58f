"""A storage server in a thread of the test, for clients and servers that are processes of their own."""

from __future__ import annotations

import contextlib
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pkgserver_trio.demo.sample import Sample


class ScriptedStorage:
    """What a storage server at `url` offers: `files`, which may change at any time.

    `requests` are those that came, as `GET /path`.
    """

    def __init__(self, url: str, files: dict[str, bytes]) -> None:
        self.url = url
        self.files = files
        self.requests: list[str] = []
        self._held: dict[str, threading.Event] = {}

    @contextmanager
    def held(self, path: str) -> Iterator[threading.Event]:
        """Deliver no more than half of `path` until the event is set, or the context ends."""
        release = self._held[path] = threading.Event()
        try:
            yield release
        finally:
            release.set()

    def pieces(self, path: str) -> Iterator[bytes]:
        """Yield the body of `path` as it is to be sent."""
        body = self.files[path]
        half = len(body) // 2
        yield body[:half]
        if path in self._held:
            self._held[path].wait()
        yield body[half:]


@contextmanager
def open_storage(files: dict[str, bytes], address: str = "127.0.0.1", port: int = 0) -> Iterator[ScriptedStorage]:
    """Serve the files, by URL path, from a thread that listens on `address`, on any port unless told."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            storage.requests.append(f"{self.command} {self.path}")
            body = storage.files.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            if with_body and body is not None:
                for piece in storage.pieces(self.path):
                    self.wfile.write(piece)

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # the server under test was killed
                super().handle()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # the base class's name
            """Say nothing."""

    with ThreadingHTTPServer((address, port), Handler) as server:
        storage = ScriptedStorage(f"http://{address}:{server.server_port}", files)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield storage
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def storage_server(sample: Sample) -> Iterator[tuple[str, list[str]]]:
    """Serve the sample from a thread; yield its URL and the requests that came."""
    with open_storage(dict(sample.files)) as storage:
        yield storage.url, storage.requests

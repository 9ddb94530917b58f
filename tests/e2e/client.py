"""An HTTP client that sends what it is told, byte for byte."""

from __future__ import annotations

import http.client
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import ssl


class Client:
    """One keep-alive connection to the server at `url`; paths are sent as they are, after the path of `url`.

    `tls` says whom to trust where `url` is an https one.
    """

    def __init__(self, url: str, *, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        self._prefix = parts.path.rstrip("/")
        self._connection = (
            http.client.HTTPSConnection(parts.netloc, timeout=20, context=tls)
            if parts.scheme == "https"
            else http.client.HTTPConnection(parts.netloc, timeout=20)
        )

    def begin(self, path: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
        """Return an answer whose body is yet to be read."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, self._prefix + path, headers=named)
        return self._connection.getresponse()

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        response = self.begin(path, method, **headers)
        return response.status, response.headers, response.read()

    def leave(self) -> None:
        """Break the connection off, whoever reads from it in whatever thread."""
        self._connection.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._connection.close()

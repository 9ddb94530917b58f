"""Those who watch the log live, at `/admin/logs`."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.client import HTTPException
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.acceptance.target import Target


class Watch:
    """What came of the log so far, as `text`."""

    def __init__(self) -> None:
        self.text = bytearray()


@contextmanager
def watching(target: Target, authorization: str, query: str = "") -> Iterator[Watch]:
    """Watch the log in a thread, until the end of the context."""
    watch = Watch()
    with target.client() as client:
        log = client.begin(f"/admin/logs{query}", Authorization=authorization)
        assert (log.status, log.headers["Content-Type"]) == (200, "text/plain; charset=utf-8")

        def read() -> None:
            try:
                while piece := log.read1(65_536):
                    watch.text += piece
            except (OSError, HTTPException):
                return  # we left

        thread = threading.Thread(target=read)
        thread.start()
        try:
            yield watch
        finally:
            client.leave()
            thread.join()

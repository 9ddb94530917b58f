"""How far each log of nginx was read, remembered across restarts. Blocking.

Nothing here is worth a failure: where the memory is lost, a log is read from its beginning.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

import structlog

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Bookmark(NamedTuple):
    """Where reading goes on: the position in bytes, and what stands right before it."""

    offset: int = 0
    mark: bytes = b""


class Bookmarks:
    """The bookmarks in the file `path`, by the path of their log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved = _load(path)
        self._failed = False

    def of(self, log: Path) -> Bookmark:
        """Return where to go on in a log: at its beginning, when nothing is known of it."""
        return self._saved.get(str(log), Bookmark())

    def save(self, bookmarks: Mapping[Path, Bookmark]) -> None:
        """Remember these, and no others."""
        changed = {str(log): bookmark for log, bookmark in bookmarks.items()}
        if changed == self._saved:
            return
        written = {log: [offset, mark.decode("latin-1")] for log, (offset, mark) in changed.items()}
        temporary = self._path.with_suffix(".new")
        try:
            temporary.write_text(json.dumps(written), "ascii")
            temporary.replace(self._path)
        except OSError as error:
            if not self._failed:  # it would be the same every second
                _warn("positions in hit logs cannot be saved", self._path, error)
            self._failed = True
        else:
            self._saved, self._failed = changed, False


def _load(path: Path) -> dict[str, Bookmark]:
    try:
        saved = json.loads(path.read_bytes())
        return {log: _bookmark(*written) for log, written in saved.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        _warn("positions in hit logs are lost", path, error)
        return {}


def _bookmark(offset: int, text: str) -> Bookmark:
    """Return what was written; raises ValueError, TypeError, AttributeError if it was by nobody here."""
    mark = text.encode("latin-1")
    if type(offset) is not int or not len(mark) <= offset < 1 << 63 or bool(offset) != bool(mark):
        raise ValueError("no position")
    return Bookmark(offset, mark)


def _warn(event: str, path: Path, error: Exception) -> None:
    structlog.get_logger().warning(event, path=str(path), error=str(error))

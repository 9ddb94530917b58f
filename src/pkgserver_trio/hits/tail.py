"""Follows the logs in which nginx writes what it served, and tells of every hit.

1. A line is told of, and only then the position behind it is saved: after kill -9 some lines are told of twice, since a
   hit that was counted twice does less harm than a file that is evicted although it was used.
2. A log that was renamed is read on as long as something comes: nginx learns later of its new one. A log that cannot be
   read is looked for again and again. Nothing that happens to logs ends the server, or a request.
3. Reading and parsing happen in threads, in pieces: what is told at once are some 600 hits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
import trio

from pkgserver_trio.hits.bookmarks import Bookmarks
from pkgserver_trio.hits.file import HitFile, identity_of
from pkgserver_trio.hits.lines import parse_hits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pkgserver_trio.hits.bookmarks import Bookmark
    from pkgserver_trio.hits.lines import Harvest, Hit

    OnHits = Callable[[Sequence[Hit]], None]

#: When a log is cut: some 600,000 lines.
CUT_AT_BYTES: Final = 64 * 1024 * 1024
_LOOK_SECONDS = 1
#: How long a log that was renamed has to be silent before it is let go of.
_LEFT_SECONDS = 60
#: How much of one log is read before it is another's turn, and positions are saved: 16 MiB.
_PIECES_PER_TURN = 256
_SHOWN_BYTES = 200


async def follow_hit_logs(
    paths: Sequence[Path], on_hits: OnHits, *, bookmarks: Path, cut_at_bytes: int = CUT_AT_BYTES
) -> None:
    """Call `on_hits` with the hits that the logs at `paths` tell of, as they come, for ever; raises nothing.

    `bookmarks` is a file for the positions, so that the next start goes on where this one stops.
    """
    memory = await trio.to_thread.run_sync(Bookmarks, bookmarks)
    tails = [HitTail(path, memory.of(path), cut_at_bytes) for path in paths]
    try:
        while True:
            more = [await tail.turn(on_hits) for tail in tails]
            await trio.to_thread.run_sync(memory.save, {tail.path: tail.bookmark for tail in tails})
            if not any(more):
                await trio.sleep(_LOOK_SECONDS)
    finally:
        memory.save({tail.path: tail.bookmark for tail in tails})
        for tail in tails:
            tail.close()


class HitTail:
    """What is followed under one path: the log that is there, and those that were there before it, until they end."""

    def __init__(self, path: Path, bookmark: Bookmark, cut_at_bytes: int) -> None:
        self.path = path
        self._bookmark = bookmark
        self._cut_at_bytes = cut_at_bytes
        self._current: HitFile | None = None
        self._left: list[HitFile] = []
        self._told: set[str] = set()

    @property
    def bookmark(self) -> Bookmark:
        """How far the log at the path was read."""
        return self._current.bookmark if self._current else self._bookmark

    async def turn(self, on_hits: OnHits) -> bool:
        """Read what has come; return whether there is more."""
        try:
            await self._look()
        except OSError as error:
            # While a log is being replaced there is none for a moment.
            if not self._current or not isinstance(error, FileNotFoundError):
                self._warn(f"there is no hit log to read: {error.strerror}")
        more = False
        for file in self._files():
            try:
                more |= await self._read_on(file, on_hits)
            except OSError as error:  # the next look opens it again
                self._warn(f"a hit log cannot be read: {error.strerror}")
                self._let_go(file)
        return more

    def _files(self) -> list[HitFile]:
        return [*self._left, self._current] if self._current else self._left[:]

    async def _look(self) -> None:
        """Open the log if it is another one than before, and let go of those that were left (rule 2)."""
        newer = await trio.to_thread.run_sync(self._open_newer)
        now = trio.current_time()
        if newer is not None:
            newer.heard_seconds = now
            self._left, self._current = self._files(), newer
            self._told.clear()
        for file in tuple(self._left):
            if now - file.heard_seconds >= _LEFT_SECONDS:
                self._let_go(file)

    def _open_newer(self) -> HitFile | None:
        if self._current and identity_of(self.path.stat()) == self._current.identity:
            return None
        return HitFile(self.path, self.bookmark)

    async def _read_on(self, file: HitFile, on_hits: OnHits) -> bool:
        for _ in range(_PIECES_PER_TURN):
            harvest = await trio.to_thread.run_sync(_read_piece, file)
            if harvest is None:
                break
            file.heard_seconds = trio.current_time()
            if harvest.garbage:
                self._warn("not a line of a hit log", line=harvest.garbage[0][:_SHOWN_BYTES].decode("latin-1"))
            if harvest.hits:
                on_hits(harvest.hits)
        else:
            return True
        if file is self._current and file.bookmark.offset >= self._cut_at_bytes:
            await self._cut(file)
        return False

    async def _cut(self, file: HitFile) -> None:
        if not file.is_ours:
            if file.garbled:  # else nothing of it was read since the start
                self._warn("not truncated: most of it is no hit log")
            return
        try:
            await trio.to_thread.run_sync(file.cut, self.path)
        except OSError as error:
            self._warn(f"a hit log cannot be truncated: {error.strerror}")

    def _let_go(self, file: HitFile) -> None:
        if file is self._current:
            self._bookmark, self._current = file.bookmark, None
        else:
            self._left.remove(file)
        file.close()

    def close(self) -> None:
        """Let go of all logs."""
        for file in self._files():
            self._let_go(file)

    def _warn(self, event: str, **details: str) -> None:
        """Tell of it once for each log: it would be the same every second."""
        if event not in self._told:
            self._told.add(event)
            structlog.get_logger().warning(event, path=str(self.path), **details)


def _read_piece(file: HitFile) -> Harvest | None:
    lines = file.read_lines()
    if lines is None:
        return None
    harvest = parse_hits(lines)
    file.well_formed += len(harvest.hits) + harvest.others
    file.garbled += len(harvest.garbage)
    return harvest

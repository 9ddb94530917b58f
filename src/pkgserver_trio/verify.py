"""The `verify` command: its parts put together, its progress shown, its outcome as an exit code.

Findings and the summary go to standard output, progress to standard error: a bar on a terminal, else plain lines.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click
import trio

from pkgserver_trio.errors import most_telling
from pkgserver_trio.storage.cache_files import CacheFiles
from pkgserver_trio.storage.disk import Disk
from pkgserver_trio.storage.findings import Milestones, Tally, pace, progress_line
from pkgserver_trio.storage.hashing import Hashing
from pkgserver_trio.storage.verification import Repair, Verification
from pkgserver_trio.storage.verified import Verified
from pkgserver_trio.tarballs.stream import TarLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pkgserver_trio.settings import Settings

_CLEAR_LINE = "\r\033[K"
#: The file in the storage root that says: all of this cache was verified once, and nothing wrong was left in it.
_ALL_VERIFIED = "all-verified"


def verify(settings: Settings, *, repair: bool) -> int:
    """Hash the whole cache; return 1 when something in it is wrong, else 0.

    Raises click.ClickException when there is no cache to verify, or none to be listed, and click.Abort on Ctrl-C.
    """
    root = Path(settings.storage_root)
    _require_cache(root)
    hashing = Hashing(TarLimits(settings.max_unpacked_bytes, settings.max_members))
    with _memory(root / "verified.sqlite") if repair else nullcontext() as memory:
        cache = CacheFiles(root, Disk())
        verification = Verification(cache, hashing, Repair(cache, memory) if memory else None, _tell)
        _run_to_the_end(verification)
    tally = verification.tally
    if repair and tally.wrong == tally.moved:
        (root / _ALL_VERIFIED).touch()
    return 1 if tally.wrong else 0


def _require_cache(root: Path) -> None:
    for folder, lack in ((root, "does not exist"), (root / "cache", "holds no folder cache")):
        if not folder.is_dir():
            raise click.ClickException(f"nothing to verify: the storage root {root} {lack}")


@contextmanager
def _memory(path: Path) -> Iterator[Verified]:
    try:
        memory = Verified(path)
    except (sqlite3.Error, OSError) as error:
        raise click.ClickException(f"{path} cannot be used: {error}") from error
    try:
        yield memory
    finally:
        memory.close()


def _run_to_the_end(verification: Verification) -> None:
    interrupted = False
    failures: list[BaseException] = []
    try:
        trio.run(_run, verification)
    except* KeyboardInterrupt:
        interrupted = True
    except* OSError as group:
        failures.append(most_telling(group))
    if interrupted:
        raise click.Abort
    for failure in failures:
        raise click.ClickException(f"the cache cannot be verified: {failure}")


async def _run(verification: Verification) -> None:
    started = time.monotonic()
    total = await verification.survey()
    show_progress = _bar if sys.stderr.isatty() else _lines
    with show_progress(total, started) as advance:
        await verification.run(advance)
    click.echo(verification.tally.summary(time.monotonic() - started))


@contextmanager
def _bar(total: Tally, started: float) -> Iterator[Callable[[Tally], None]]:
    milestones = Milestones(total.size_bytes, parts=1000, seconds=0.1, now=started)
    with click.progressbar(
        length=total.size_bytes,
        file=sys.stderr,
        width=0,
        item_show_func=lambda text: text,
        label=f"{total.files} files",
    ) as bar:

        def advance(done: Tally) -> None:
            now = time.monotonic()
            if milestones.is_due(done.size_bytes, now):
                bar.update(done.size_bytes - bar.pos, f"{done.files} files, {pace(done, now - started)}")

        yield advance


@contextmanager
def _lines(total: Tally, started: float) -> Iterator[Callable[[Tally], None]]:
    milestones = Milestones(total.size_bytes, parts=10, seconds=10, now=started)

    def advance(done: Tally) -> None:
        now = time.monotonic()
        if milestones.is_due(done.size_bytes, now):
            click.echo(progress_line(done, total, now - started), err=True)

    yield advance


def _tell(line: str) -> None:
    if sys.stderr.isatty():
        click.echo(_CLEAR_LINE, err=True, nl=False)  # the bar is drawn again below the line
    click.echo(line)

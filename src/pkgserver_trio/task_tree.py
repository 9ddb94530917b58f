"""What every task waits for, and how far every download is: the answer to an operator who asks why nothing moves."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pkgserver_trio.downloads.flight import Flight

#: One a line, of tasks and of downloads: ten thousand connections are thirty thousand tasks; the first tell enough.
MAX_LINES: Final = 1000
_INDENT: Final = "  "
_OURS: Final = "pkgserver_trio"
#: Where all tasks wait in the end.
_MACHINERY: Final = "trio._core"


def task_lines() -> Iterator[str]:
    """Yield a line for each task, indented as they are nested, at most `MAX_LINES` of them and one about the rest."""
    root = trio.lowlevel.current_root_task()
    assert root is not None  # noqa: S101 # there is one wherever this can be called
    pending = [(0, root)]
    count = 0
    while pending:
        depth, task = pending.pop()
        count += 1
        if count <= MAX_LINES:
            yield f"{_INDENT * depth}{task.name}: {waits_in(task)}"
        for nursery in reversed(task.child_nurseries):
            pending += [(depth + 1, child) for child in sorted(nursery.child_tasks, key=_name, reverse=True)]
    if count > MAX_LINES:
        yield f"and {count - MAX_LINES} more"


def _name(task: trio.lowlevel.Task) -> str:
    return task.name


def waits_in(task: trio.lowlevel.Task) -> str:
    """Return where a task waits: the innermost place of our own code, and what was called there in the end."""
    ours = last = ""
    for frame, line in task.iter_await_frames():
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith(_MACHINERY):
            break
        last = frame.f_code.co_name
        if module.partition(".")[0] == _OURS:
            ours = f"{module.removeprefix(f'{_OURS}.')}:{line} {last}"
    return f"{ours} > {last}" if ours and not ours.endswith(f" {last}") else ours or last or "running"


def flight_lines(flights: Iterable[Flight]) -> Iterator[dict[str, Any]]:
    """Yield the words of a line for each download, at most `MAX_LINES` of them; sizes in bytes."""
    for flight in islice(flights, MAX_LINES):
        state = flight.progress.state
        yield {
            "resource": flight.resource.name,
            "server": flight.server or "",
            "written_bytes": state.written_bytes,
            "hashed_bytes": state.hashed_bytes,
            "size_bytes": state.size_bytes,
            "seconds": round(trio.current_time() - flight.begun, 3),
            "verified": state.verified,
        }

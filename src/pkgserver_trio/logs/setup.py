"""Opens the log: one form for every line, ours and that of the libraries, text for people or JSON for machines."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO, cast

import structlog

from pkgserver_trio.logs.folder import LogFolder
from pkgserver_trio.logs.hub import LogHub, logger_class
from pkgserver_trio.logs.outlet import Outlet, StandardOutput, spread
from pkgserver_trio.logs.text import render_text
from pkgserver_trio.printable import printable
from pkgserver_trio.request_id import REQUEST_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from structlog.typing import Processor

#: No event begins so, and no line of a traceback otherwise.
_TRACEBACK_MARGIN = "  | "
#: Of a traceback the end tells most.
_MAX_LINES = 200
#: What structlog hands from one of its processors to another, and none renders.
_STDLIB_KEYS = frozenset({"_record", "_from_structlog"})


@contextmanager
def open_logs(
    *, level: str, log_format: str, folder: Path | None = None, hub: LogHub | None = None
) -> Iterator[list[Outlet]]:
    """Send all log lines of at least `level` to standard output and to `folder`, in `log_format` (`text` or `json`).

    `hub` has those who watch them. What is queued is written at the end.
    """
    fd = _standard_output()
    colours = log_format == "text" and fd is not None and os.isatty(fd)
    outlets = [] if fd is None else [Outlet(StandardOutput(fd))]
    if folder is not None:
        outlets.append(Outlet(LogFolder(folder), strip_colours=colours))
    configure_logs(spread(outlets), level=level, log_format=log_format, colours=colours, hub=hub)
    try:
        yield outlets
    finally:
        for outlet in outlets:
            outlet.close()


def _standard_output() -> int | None:
    """Return its descriptor; None when it is closed, and the number may be that of another file."""
    stream: TextIO | None = sys.stdout
    try:
        return None if stream is None else stream.fileno()
    except (OSError, ValueError):
        return None


class _Stream:
    """What structlog and the standard library take for a file: whole lines come out of it."""

    def __init__(self, put: Callable[[str], None]) -> None:
        self.write = put

    def flush(self) -> None:
        """Do nothing: the outlets write by themselves."""


def configure_logs(
    put: Callable[[str], None], *, level: str, log_format: str, colours: bool = False, hub: LogHub | None = None
) -> None:
    """Hand every log line of at least `level` to `put`, in `log_format` (`text` or `json`), its newline included.

    `hub` has those who watch them, and may want more.
    """
    hub = hub or LogHub()
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        _add_request_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _make_printable,
        hub.tap(threshold),
    ]
    renderer = _renderer(log_format, colours=colours)
    stream = cast("TextIO", _Stream(put))
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=logger_class(hub, threshold),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    _configure_libraries(logging.StreamHandler(stream), threshold, shared, renderer)


def _configure_libraries(
    handler: logging.Handler, threshold: int, shared: Sequence[Processor], renderer: Processor
) -> None:
    """Have what libraries log made and sent in the same way."""
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processor=renderer))
    handler.setLevel(threshold)  # whatever level a library gives its own logger
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(threshold, logging.WARNING))  # the libraries' own chatter says nothing that ours does not


def _renderer(log_format: str, *, colours: bool) -> Processor:
    if log_format == "json":
        return structlog.processors.JSONRenderer()
    return lambda _logger, _method, event: render_text(event, colours=colours)


def _add_request_id(_logger: object, _method: str, event: Any) -> Any:  # noqa: ANN401 # structlog's own type
    """Say in which request it happened, or for which, if for one."""
    request_id = REQUEST_ID.get()
    if request_id:
        event["request_id"] = request_id
    return event


def _make_printable(_logger: object, _method: str, event: Any) -> Any:  # noqa: ANN401 # structlog's own type
    """Keep one event on one line, and every line of a traceback apart from the next event, whatever others wrote."""
    for key, value in event.items():
        if key == "exception":
            event[key] = "\n".join(_TRACEBACK_MARGIN + printable(line) for line in value.split("\n")[-_MAX_LINES:])
        elif key not in _STDLIB_KEYS:
            event[key] = _printable_value(value)
    return event


def _printable_value(value: object) -> object:
    match value:
        case str():
            return printable(value)
        case None | bool() | int() | float():
            return value
        case Mapping():
            return {printable(str(key)): _printable_value(item) for key, item in value.items()}
        case list() | tuple():
            return [_printable_value(item) for item in value]
        case _:
            return printable(repr(value))

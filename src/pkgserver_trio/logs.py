"""One form for every log line, ours and that of the libraries: text for people, JSON for machines."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO, cast

import structlog

from pkgserver_trio.log_hub import LogHub, logger_class
from pkgserver_trio.printable import printable

if TYPE_CHECKING:
    from structlog.typing import Processor

#: No event begins so, and no line of a traceback otherwise.
_TRACEBACK_MARGIN = "  | "
#: Of a traceback the end tells most.
_MAX_LINES = 200
#: What structlog hands from one of its processors to another, and none renders.
_STDLIB_KEYS = frozenset({"_record", "_from_structlog"})


class _Forgiving:
    """A stream that drops what cannot be written: a log on a full disk, or that nobody reads, fails no download."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write, or drop."""
        with contextlib.suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        """Write out, or try again with what is written next."""
        with contextlib.suppress(OSError):
            self._stream.flush()


def configure_logs(*, level: str, log_format: str, hub: LogHub | None = None) -> None:
    """Send all log lines of at least `level` to standard error, in `log_format` (`text` or `json`).

    `hub` has those who watch them, and may want more.
    """
    hub = hub or LogHub()
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _make_printable,
        hub.tap(threshold),
    ]
    renderer = _renderer(log_format)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=logger_class(hub, threshold),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Forgiving(sys.stderr))),
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processor=renderer)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(threshold, logging.WARNING))  # the libraries' own chatter says nothing that ours does not


def _renderer(log_format: str) -> Processor:
    if log_format == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)


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
        case None | bool() | int() | float():
            return value
        case str():
            return printable(value)
        case Mapping():
            return {printable(str(key)): _printable_value(item) for key, item in value.items()}
        case list() | tuple():
            return [_printable_value(item) for item in value]
        case _:
            return printable(repr(value))

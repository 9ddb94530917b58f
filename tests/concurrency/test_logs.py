from __future__ import annotations

import errno
import json
import logging
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from pkgserver_trio.logs import configure_logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def _restored_logs() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_json_lines_hold_level_time_and_words(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(level="info", log_format="json")
    structlog.get_logger().info("downloaded", size_bytes=5)
    (line,) = map(json.loads, lines_of(capsys))
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "downloaded", "level": "info", "size_bytes": 5}


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_is_below_the_level_is_left_out(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    configure_logs(level="warning", log_format=log_format)
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    (line,) = lines_of(capsys)
    assert "loud" in line


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_libraries_write_in_the_same_form(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    configure_logs(level="debug", log_format=log_format)
    logging.getLogger("library").info("chatter")
    logging.getLogger("library").error("trouble")
    (line,) = lines_of(capsys)
    assert "trouble" in line
    assert log_format == "text" or json.loads(line)["level"] == "error"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_one_event_is_one_line_whatever_it_holds(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    configure_logs(level="info", log_format=log_format)
    structlog.get_logger().info("downloaded", server="evil\n2026 [info] forged\x1b[31m")
    (line,) = lines_of(capsys)
    assert "\x1b[31m" not in line
    assert "forged" in line


EVERYTHING = st.text(st.characters(exclude_categories=()))


def logged(log_format: str, *events: Callable[[], object]) -> list[str]:
    with redirect_stderr(StringIO()) as err:
        configure_logs(level="info", log_format=log_format)
        for event in events:
            event()
    return err.getvalue().removesuffix("\n").split("\n")


@pytest.mark.parametrize("log_format", ["text", "json"])
@given(text=EVERYTHING)
def test_nothing_but_printable_ascii_is_written_whatever_is_logged(log_format: str, text: str) -> None:
    log = structlog.get_logger()
    values = {"words": text, "items": [text, (text, {text: text})], "object": Path(text), "number": 1.5}
    lines = logged(
        log_format,
        lambda: log.info(text, **values),
        lambda: logging.getLogger("library").error("%s", text),
    )
    assert len(lines) == 2
    assert all(" " <= character <= "~" for line in lines for character in line)


@given(text=EVERYTHING)
def test_no_line_of_a_traceback_looks_like_an_event(text: str) -> None:
    def fail() -> None:
        structlog.get_logger().error("defect", exc_info=ValueError(text))

    first, *lines = logged("text", fail)
    assert first.endswith("defect")
    assert all(line.startswith("  | ") for line in lines)
    assert all(" " <= character <= "~" for line in lines for character in line)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_long_value_is_cut(log_format: str) -> None:
    (line,) = logged(log_format, lambda: structlog.get_logger().info("downloaded", error="x" * 10_000))
    assert len(line) < 2000


def test_numbers_stay_numbers() -> None:
    (line,) = logged("json", lambda: structlog.get_logger().info("kept", size_bytes=5, kept=True, head=None, most=1.5))
    words = json.loads(line)
    assert (words["size_bytes"], words["kept"], words["head"], words["most"]) == (5, True, None, 1.5)


def test_a_log_on_a_full_disk_fails_nobody_and_goes_on_when_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    class Disk(StringIO):
        full = True

        def flush(self) -> None:
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")

        def write(self, text: str) -> int:
            self.flush()
            return super().write(text)

    disk = Disk()
    monkeypatch.setattr("sys.stderr", disk)
    configure_logs(level="info", log_format="json")
    structlog.get_logger().info("lost")
    logging.getLogger("a library").error("lost")
    disk.full = False
    structlog.get_logger().info("kept")
    assert [json.loads(line)["event"] for line in disk.getvalue().splitlines()] == ["kept"]

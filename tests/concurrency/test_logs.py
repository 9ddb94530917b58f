from __future__ import annotations

import errno
import io
import json
import logging
from typing import TYPE_CHECKING

import pytest
import structlog

from pkgserver_trio.logs import configure_logs

if TYPE_CHECKING:
    from collections.abc import Iterator


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


def test_a_log_on_a_full_disk_fails_nobody_and_goes_on_when_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    class Disk(io.StringIO):
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

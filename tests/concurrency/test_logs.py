from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from tests.log_state import restored_logs

from pkgserver_trio.logs.setup import configure_logs, open_logs
from pkgserver_trio.request_id import REQUEST_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def _restored_logs() -> Iterator[None]:
    with restored_logs():
        yield


def logged(log_format: str, *events: Callable[[], object], level: str = "info", colours: bool = False) -> list[str]:
    """Return the lines of these events."""
    written: list[str] = []
    configure_logs(written.append, level=level, log_format=log_format, colours=colours)
    for event in events:
        event()
    return "".join(written).removesuffix("\n").split("\n")


def test_json_lines_hold_level_time_and_words() -> None:
    (line,) = map(json.loads, logged("json", lambda: structlog.get_logger().info("downloaded", size_bytes=5)))
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "downloaded", "level": "info", "size_bytes": 5}


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_is_below_the_level_is_left_out(log_format: str) -> None:
    log = structlog.get_logger()
    (line,) = logged(log_format, lambda: log.info("quiet"), lambda: log.warning("loud"), level="warning")
    assert "loud" in line


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_libraries_write_in_the_same_form(log_format: str) -> None:
    library = logging.getLogger("library")
    (line,) = logged(log_format, lambda: library.info("chatter"), lambda: library.error("trouble"), level="debug")
    assert "trouble" in line
    assert log_format == "text" or json.loads(line)["level"] == "error"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_one_event_is_one_line_whatever_it_holds(log_format: str) -> None:
    evil = "evil\n2026 [info] forged\x1b[31m"
    (line,) = logged(log_format, lambda: structlog.get_logger().info("downloaded", server=evil))
    assert "\x1b[31m" not in line
    assert "forged" in line


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_every_line_of_a_request_has_its_name_and_no_other_line_one(log_format: str) -> None:
    def name_and_tell() -> None:
        REQUEST_ID.set("abc.1")
        structlog.get_logger().info("of a request")
        logging.getLogger("library").error("of a request too")
        REQUEST_ID.set("")

    lines = logged(log_format, name_and_tell, lambda: structlog.get_logger().info("of none"))
    assert ["abc.1" in line for line in lines] == [True, True, False]
    assert "request_id" not in lines[2]


def test_colours_are_for_those_who_ask() -> None:
    def tell() -> None:
        structlog.get_logger().info("downloaded")

    assert "\x1b" in logged("text", tell, colours=True)[0]
    assert "\x1b" not in logged("text", tell)[0]


EVERYTHING = st.text(st.characters(exclude_categories=()))


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


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_lines_go_to_standard_output_and_to_the_file_of_the_hour(
    log_format: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with open_logs(level="info", log_format=log_format, folder=tmp_path / "new" / "logs"):
        structlog.get_logger().info("downloaded", size_bytes=5)
    printed = capfd.readouterr()
    assert (printed.out.count("downloaded"), printed.err) == (1, "")
    (file,) = (tmp_path / "new" / "logs").iterdir()
    assert file.read_text() == printed.out


def test_a_terminal_gets_colours_and_the_file_none(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.isatty", lambda _: True)
    with open_logs(level="info", log_format="text", folder=tmp_path):
        structlog.get_logger().info("downloaded", size_bytes=5)
    assert "\x1b[" in capfd.readouterr().out
    (file,) = tmp_path.iterdir()
    assert "downloaded" in file.read_text()
    assert "\x1b" not in file.read_text()


def test_json_for_a_terminal_has_no_colours(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.isatty", lambda _: True)
    with open_logs(level="info", log_format="json"):
        structlog.get_logger().info("downloaded")
    assert json.loads(capfd.readouterr().out)["event"] == "downloaded"


class _NoFile:
    def fileno(self) -> int:
        raise OSError("no file at all")


@pytest.mark.parametrize("stream", [None, _NoFile()])
def test_without_a_standard_output_nothing_is_written_to_its_number(
    stream: object, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", stream)
    with open_logs(level="info", log_format="json", folder=tmp_path):
        structlog.get_logger().info("downloaded")
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_text())["event"] == "downloaded"
    assert capfd.readouterr() == ("", "")

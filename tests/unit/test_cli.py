from __future__ import annotations

import os
import subprocess
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from pkgserver_trio import __version__
from pkgserver_trio.__main__ import main
from pkgserver_trio.cli import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pkgserver_trio.settings import Settings

OURS = ("PKGSERVER_", "JULIA_PKG_SERVER")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and an environment in which nobody has set anything of ours."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)
    return tmp_path


def stand_in(monkeypatch: pytest.MonkeyPatch, module: str, name: str, function: Callable[..., int]) -> None:
    """Replace the module that the command imports: these tests start no server."""
    replacement = ModuleType(module)
    setattr(replacement, name, function)
    monkeypatch.setitem(sys.modules, module, replacement)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings of every server that was started; each ends at once with exit code 0."""
    started: list[Settings] = []

    def serve(settings: Settings) -> int:
        started.append(settings)
        return 0

    stand_in(monkeypatch, "pkgserver_trio.process", "serve", serve)
    return started


def test_no_command_starts_the_server(served: list[Settings]) -> None:
    assert run([]) == 0
    assert [settings.listen.port for settings in served] == [8000]


@pytest.mark.parametrize("code", [0, 1, 143])
def test_exit_code_of_the_server_is_ours(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    stand_in(monkeypatch, "pkgserver_trio.process", "serve", lambda _settings: code)
    assert run([]) == code


def test_options_set_what_they_are_short_for(served: list[Settings]) -> None:
    options = ["--listen", "[::1]:0", "--storage-root", "/data", "--storage-servers", "https://a,https://b"]
    assert run([*options, "--set", "PKGSERVER_MAX_DOWNLOADS=7", "--set", "PKGSERVER_MAX_DOWNLOADS=8"]) == 0
    (settings,) = served
    assert settings.listen == ("::1", 0)
    assert settings.storage_root == "/data"
    assert settings.storage_servers == ("https://a", "https://b")
    assert settings.max_downloads == 8


def test_values_may_hold_equals_signs(served: list[Settings]) -> None:
    assert run(["--set", "PKGSERVER_CA_FILE=/a=b"]) == 0
    assert served[0].ca_file == "/a=b"


def test_files_are_read(served: list[Settings], folder: Path) -> None:
    (folder / "a.env").write_text("PKGSERVER_MAX_DOWNLOADS=7\n")
    (folder / "a.toml").write_text("PKGSERVER_MAX_CONNECTIONS = 9\n")
    assert run(["--env-file", "a.env", "--config", "a.toml"]) == 0
    assert (served[0].max_downloads, served[0].max_connections) == (7, 9)


def test_check_config_prints_every_setting_with_its_source_and_no_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    monkeypatch.setenv("JULIA_PKG_SERVER_ADMIN_TOKEN_SHA256", "ab" * 32)
    (folder / ".env").write_text("PKGSERVER_LOG_FORMAT=json\n")
    assert run(["--storage-servers", "https://user:s3cr3t@host", "check-config"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "JULIA_PKG_SERVER_ADMIN_TOKEN_SHA256=***  (environment)" in lines
    assert "JULIA_PKG_SERVER_STORAGE_SERVERS=https://***@host  (flag)" in lines
    assert "JULIA_PKG_SERVER_LOGS_DIR=/tmp/pkgserver/logs  (default)" in lines
    assert "PKGSERVER_LOG_FORMAT=json  (./.env)" in lines


def test_check_config_starts_no_server(served: list[Settings]) -> None:
    assert run(["check-config"]) == 0
    assert served == []


@pytest.mark.parametrize("command", [[], ["check-config"], ["verify"], ["verify", "--repair"]])
def test_wrong_setting_is_exit_code_2_and_one_line(
    served: list[Settings], capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert run(["--set", "PKGSERVER_MAX_DOWNLOADS=many", *command]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        "Error: PKGSERVER_MAX_DOWNLOADS is 'many', expected a whole number from 1 to 10000 (from: flag)\n"
    )
    assert served == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--set", "PKGSERVER_MAX_DOWNLOADS"],
        ["unheard-of"],
        ["--unheard-of"],
        ["demo", "--port", "65536"],
        ["verify", "x"],
    ],
)
def test_wrong_usage_is_exit_code_2(
    served: list[Settings], capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run(arguments) == 2
    assert "Error: " in capsys.readouterr().err
    assert served == []


def test_warning_is_printed_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, served: list[Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PKGSERVER_MAX_DOWNLOAD", "7")
    assert run([]) == 0
    assert capsys.readouterr().err == (
        "Warning: PKGSERVER_MAX_DOWNLOAD is not a setting: did you mean PKGSERVER_MAX_DOWNLOADS?\n"
    )
    assert len(served) == 1


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [([], (False, None)), (["--check"], (True, None)), (["--port", "0"], (False, 0))],
)
def test_demo_gets_its_options_and_gives_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], asked: tuple[bool, int | None]
) -> None:
    calls: list[tuple[bool, int | None]] = []

    def run_demo(*, check: bool, port: int | None) -> int:
        calls.append((check, port))
        return 1

    stand_in(monkeypatch, "pkgserver_trio.demo.run", "run", run_demo)
    assert run(["demo", *arguments]) == 1
    assert calls == [asked]


def test_demo_needs_no_right_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JULIA_PKG_SERVER", "https://pkg.julialang.org")
    stand_in(monkeypatch, "pkgserver_trio.demo.run", "run", lambda *, check, port: 0)
    assert run(["demo"]) == 0


@pytest.mark.parametrize(("options", "repair"), [([], False), (["--repair"], True)])
def test_verify_gets_the_settings_and_its_option_and_gives_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, options: list[str], *, repair: bool
) -> None:
    calls: list[tuple[str, bool]] = []

    def verify(settings: Settings, *, repair: bool) -> int:
        calls.append((settings.storage_root, repair))
        return 1

    stand_in(monkeypatch, "pkgserver_trio.verify", "verify", verify)
    assert run(["--storage-root", "/data", "verify", *options]) == 1
    assert calls == [("/data", repair)]


def test_interruption_before_the_server_listens_for_signals_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_settings: Settings) -> int:
        raise KeyboardInterrupt

    stand_in(monkeypatch, "pkgserver_trio.process", "serve", interrupted)
    assert run([]) == 130


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_names_the_commands(capsys: pytest.CaptureFixture[str], option: str) -> None:
    assert run([option]) == 0
    printed = capsys.readouterr().out
    assert "check-config" in printed
    assert "demo" in printed
    assert "verify" in printed


def test_help_imports_neither_the_server_nor_its_libraries() -> None:
    program = (
        "import sys; from pkgserver_trio.cli import run; run(['--help']); "
        "sys.exit(' '.join({'trio', 'quart', 'httpx', 'pkgserver_trio.main'} & sys.modules.keys()) or None)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, check=False
    )
    assert (ended.stderr, ended.returncode) == (b"", 0)


def test_main_exits_with_the_code_of_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pkgserver", "--set", "OTHER=1"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capsys.readouterr().err == "Error: flag: 'OTHER' is not a setting\n"


def test_package_is_a_program() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pkgserver_trio", "--version"],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=True,
    )
    assert __version__ in ended.stdout.decode()


@pytest.mark.parametrize(
    "text",
    [
        "PKGSERVER_REGISTRIES=23338594-aafe-5451-b93e-139f81909106=https://github.com/General",
        "PKGSERVER_ORIGIN_TOKENS_FILE=/nowhere",
        "PKGSERVER_CA_FILE=/nowhere",
        "PKGSERVER_MIRROR_CREDENTIALS_FILE=/nowhere",
    ],
)
def test_check_config_refuses_what_the_start_would(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PKGSERVER_MIRROR_BUCKETS", "ours")
    assert run(["--set", text, "check-config"]) == 2
    assert text.partition("=")[0] in capsys.readouterr().err

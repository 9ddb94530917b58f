from __future__ import annotations

import fcntl
import json
import socket
import subprocess
import sys
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from pkgserver_trio import healthcheck as module
from pkgserver_trio.cli import run
from pkgserver_trio.healthcheck import healthcheck
from pkgserver_trio.settings import ListenAddress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEAVY = {"asyncio", "email", "httpx", "quart", "ssl", "trio"}


@contextmanager
def answering(*pieces: bytes, host: str = "127.0.0.1", stay: bool = False) -> Iterator[int]:
    """Answer one connection with `pieces` and yield the port; `stay` keeps the connection open."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                while b"\r\n\r\n" not in connection.recv(1000):
                    pass
                for piece in pieces:
                    connection.sendall(piece)
                if stay:
                    connection.recv(1)

        thread = Thread(target=answer)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join()


@pytest.mark.parametrize(
    ("listens", "asked"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("localhost", "localhost")]
)
def test_living_server_is_healthy(listens: str, asked: str, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(b"HTTP/1.1 ", b"200 \r\n\r\nok") as port:
        assert healthcheck(ListenAddress(listens, port)) == 0
    assert capsys.readouterr().out == f"healthy: http://{asked}:{port}/healthz\n"


@pytest.mark.parametrize("listens", ["::", "::1"])
def test_ipv6_is_asked_on_its_loopback(listens: str, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(b"HTTP/1.1 200 \r\n\r\n", host="::1") as port:
        assert healthcheck(ListenAddress(listens, port)) == 0
    assert capsys.readouterr().out == f"healthy: http://[::1]:{port}/healthz\n"


@pytest.mark.parametrize(
    ("pieces", "told"),
    [
        ([b"HTTP/1.1 503 \r\n\r\n"], "it answers 'HTTP/1.1 503 '"),
        ([b"SSH-2.0-x\r\n", b"more"], "it answers 'SSH-2.0-x'"),
        ([], "it answers ''"),
    ],
)
def test_any_other_answer_is_unhealthy_and_shown(
    pieces: list[bytes], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(*pieces) as port:
        assert healthcheck(ListenAddress("127.0.0.1", port)) == 1
    assert capsys.readouterr().out == f"unhealthy: http://127.0.0.1:{port}/healthz: {told}\n"


def test_nobody_there_is_unhealthy(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert healthcheck(ListenAddress("127.0.0.1", port)) == 1
    assert capsys.readouterr().out.endswith(": Connection refused\n")


def test_server_that_starts_or_ends_is_healthy_while_it_owns_its_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    address = ListenAddress("127.0.0.1", port)
    assert healthcheck(address, tmp_path) == 1  # there is no store
    with (tmp_path / ".lock").open("w") as lock:
        assert healthcheck(address, tmp_path) == 1  # it was killed
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert healthcheck(address, tmp_path) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    assert told.endswith("/healthz: Connection refused, but it owns its store: it starts, or it ends")


def test_server_that_owns_its_store_and_hangs_is_unhealthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.05)
    with (tmp_path / ".lock").open("w") as lock, answering(stay=True) as port:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert healthcheck(ListenAddress("127.0.0.1", port), tmp_path) == 1


def test_another_server_can_be_asked_by_its_address(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(b"HTTP/1.1 200 \r\n\r\n") as port:
        assert run(["healthcheck", f"127.0.0.1:{port}"]) == 0
    assert run(["healthcheck", "nowhere"]) == 2
    assert "'nowhere' is not host:port" in capsys.readouterr().err


@pytest.mark.parametrize("pieces", [[], [b"HTTP/1.1"]])
def test_server_that_hangs_is_unhealthy_in_bounded_time(
    pieces: list[bytes], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.05)
    with answering(*pieces, stay=True) as port:
        assert healthcheck(ListenAddress("127.0.0.1", port)) == 1
    assert capsys.readouterr().out.endswith(": no answer within 0.05 seconds\n")


def test_command_asks_the_configured_address_and_imports_nothing_heavy() -> None:
    script = (
        "import json, sys; from pkgserver_trio.cli import run; code = run(sys.argv[1:]);"
        "print(json.dumps([code, *sys.modules]))"
    )
    with answering(b"HTTP/1.1 200 \r\n\r\n") as port:
        command = [sys.executable, "-c", script, "--listen", f"0.0.0.0:{port}", "healthcheck"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": "src"})
    line, modules = done.stdout.splitlines()
    assert line == f"healthy: http://127.0.0.1:{port}/healthz"
    code, *names = json.loads(modules)
    assert code == 0
    assert not HEAVY & set(names)

from __future__ import annotations

import fcntl
import json
import socket
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from pkgserver_trio import healthcheck as module
from pkgserver_trio.cli import run
from pkgserver_trio.healthcheck import healthcheck
from pkgserver_trio.settings import ListenAddress
from pkgserver_trio.storage.lock_sign import latest_end, sign_of

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


def test_server_that_ends_in_order_accepts_nobody_and_is_not_ill(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / "lock"
    lock.write_text(sign_of(datetime.now(UTC), latest_end(20)), "utf-8")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = ListenAddress("127.0.0.1", listener.getsockname()[1])
    with lock.open() as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        assert healthcheck(address, lock) == 0
    assert capsys.readouterr().out.endswith(": it ends, and finishes what it has begun\n")
    assert healthcheck(address, lock) == 1


def test_another_server_can_be_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(b"HTTP/1.1 200 \r\n\r\n") as port:
        assert run(["healthcheck", f"localhost:{port}"]) == 0
    assert run(["healthcheck", f"localhost:{port}"]) == 1
    assert run(["healthcheck", "localhost"]) == 2
    assert "HOST:PORT: 'localhost': expected host:port" in capsys.readouterr().err


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

"""What a process holds, as the kernel tells it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tests.soak.ledger import Vitals

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


def read_vitals(pid: int, root: Path, port: int, storage_ports: Collection[int]) -> Vitals:
    """Return what the server of this process, store, and port holds now."""
    process = Path("/proc", str(pid))
    fds = list(_targets(process / "fd"))
    ends = dict(_ends_of_sockets(process / "net" / "tcp"))
    sockets = [ends[fd] for fd in fds if fd in ends]
    upstream = sum(remote in storage_ports for _, remote in sockets)
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return Vitals(
        fds=len(fds) - upstream,
        upstream=upstream,
        threads=int(status["Threads"]),
        children=sum(len(path.read_text().split()) for path in process.glob("task/*/children")),
        connections=sum(local == port and remote != 0 for local, remote in sockets),
        unfinished=sum(path.is_file() for path in (root / "temp").rglob("*")),
        rss_bytes=int(status["VmRSS"].split()[0]) * 1024,
    )


def _targets(folder: Path) -> Iterator[str]:
    for entry in folder.iterdir():
        try:
            yield os.readlink(entry)  # noqa: PTH115 # `socket:[1234]` is no path
        except FileNotFoundError:  # closed since it was listed
            continue


def _ends_of_sockets(table: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the local and the remote port of each TCP socket of this machine, by what a file descriptor calls it."""
    for line in table.read_text().splitlines()[1:]:
        fields = line.split()
        local, remote = (int(end.rpartition(":")[2], 16) for end in fields[1:3])
        yield f"socket:[{fields[9]}]", (local, remote)

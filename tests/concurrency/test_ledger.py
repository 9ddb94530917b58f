"""The ledger of registries: what it remembers, across restarts, cut lines and failing disks."""

from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING

import pytest
from tests.disks import ScriptedDisk

from pkgserver_trio.registries.ledger import PASSED_OVER_SECONDS, Adoption, Ledger
from pkgserver_trio.storage.disk import Disk

if TYPE_CHECKING:
    from pathlib import Path

A, B, C, D = ("a" * 40, "b" * 40, "c" * 40, "d" * 40)
UUID = "23338594-aafe-5451-b93e-139f81909106"


def adoption(head: str, listed: float | None = None) -> Adoption:
    return Adoption(head, 1_700_000_000.5, listed, None if listed is None else "http://one.invalid")


def fill(path: Path) -> Ledger:
    ledger = Ledger(path, Disk())
    for head in (A, B, C, B):
        ledger.adopt("eager", UUID, adoption(head))
    ledger.pass_over("eager", UUID, [D, A], 1_700_000_001)
    ledger.adopt("conservative", UUID, adoption(A, listed=1_600_000_000))
    return ledger


def assert_filled(ledger: Ledger) -> None:
    assert ledger.adoption("eager", UUID) == adoption(B)
    assert [ledger.is_superseded("eager", UUID, head) for head in (A, B, C, D)] == [True, False, True, False]
    now = 1_700_000_001 + PASSED_OVER_SECONDS
    assert [ledger.is_passed_over("eager", UUID, D, at) for at in (now - 1, now)] == [True, False]
    assert not ledger.is_passed_over("conservative", UUID, D, now - 1)
    assert ledger.adoption("conservative", UUID) == adoption(A, listed=1_600_000_000)
    assert not ledger.is_superseded("conservative", UUID, A)
    assert ledger.adoption("", UUID) is None
    assert not ledger.is_superseded("", UUID, A)


def test_what_was_published_and_passed_over_is_known_after_a_restart(tmp_path: Path) -> None:
    assert_filled(fill(tmp_path / "ledger.jsonl"))
    assert_filled(Ledger(tmp_path / "ledger.jsonl", Disk()))


def test_each_line_can_be_read_by_people(tmp_path: Path) -> None:
    fill(tmp_path / "ledger.jsonl")
    lines = [line for line in (tmp_path / "ledger.jsonl").read_text().splitlines() if line]
    assert len(lines) == 6, "what was passed over already is not written again"
    assert json.loads(lines[0]) == {
        "time": "2023-11-14T22:13:20.500+00:00",
        "event": "published",
        "flavor": "eager",
        "registry": UUID,
        "hash": A,
        "listed": None,
        "server": None,
    }


def test_a_file_cut_anywhere_costs_what_was_cut_and_can_be_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    fill(path)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        ledger = Ledger(path, Disk())
        ledger.adopt("eager", UUID, adoption(B))
        ledger.adopt("eager", UUID, adoption(C))
        assert Ledger(path, Disk()).adoption("eager", UUID) == adoption(C)
        assert Ledger(path, Disk()).is_superseded("eager", UUID, B)


@pytest.mark.parametrize("line", [b"null", b"[]", b"{}", b"\xff\xfe", b'{"time": 5}', b"\x00" * 4096])
def test_a_line_that_is_none_is_left_out(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "ledger.jsonl"
    fill(path)
    path.write_bytes(line + b"\n" + path.read_bytes() + line)
    assert_filled(Ledger(path, Disk()))


def test_what_cannot_be_written_is_not_remembered_either(tmp_path: Path) -> None:
    disk = ScriptedDisk()
    ledger = Ledger(tmp_path / "ledger.jsonl", disk)
    ledger.adopt("eager", UUID, adoption(A))
    disk.failures["write"] = errno.ENOSPC
    with pytest.raises(OSError, match="No space"):
        ledger.adopt("eager", UUID, adoption(B))
    with pytest.raises(OSError, match="No space"):
        ledger.pass_over("eager", UUID, [C], 0)
    assert ledger.adoption("eager", UUID) == adoption(A)
    assert not ledger.is_passed_over("eager", UUID, C, 0)


def test_a_ledger_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        Ledger(tmp_path / "ledger.jsonl", Disk())

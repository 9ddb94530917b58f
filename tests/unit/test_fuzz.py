from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.fuzz.run import FINDINGS, Finding, Fuzzer
from tests.fuzz.targets import TARGETS

if TYPE_CHECKING:
    from pathlib import Path


def test_a_short_run_finds_nothing() -> None:
    fuzzer = Fuzzer("a short run")
    assert [finding for number in range(1500) for finding in fuzzer.try_case(number)] == []
    assert fuzzer.executions == 1500 * len(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_is_right_before_it_is_damaged(name: str) -> None:
    for seed in TARGETS[name].seeds:
        TARGETS[name].check(seed)


def test_a_parser_that_fails_is_found_with_the_input_and_found_again() -> None:
    def fail(tried: bytes) -> None:
        if len(tried) % 2:
            raise IndexError("odd")

    broken = {"broken": replace(TARGETS["path"], check=fail)}
    findings = [Fuzzer("again", broken).try_case(number) for number in range(50)]
    assert findings == [Fuzzer("again", broken).try_case(number) for number in range(50)]
    found = [finding for of_case in findings for finding in of_case]
    assert 5 < len(found) < 45
    assert {(finding.complaint, len(finding.tried) % 2) for finding in found} == {("IndexError: odd", 1)}


def test_a_finding_is_a_file_named_after_its_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Finding("range", b"10 bytes=", "a complaint").save()
    assert path.read_bytes() == b"10 bytes="
    assert path.parent == FINDINGS
    assert path.name.startswith("range-")

from __future__ import annotations

import pytest

from pkgserver_trio.storage.findings import Finding, Milestones, Tally, Verdict, progress_line


@pytest.mark.parametrize(
    ("finding", "line"),
    [
        (Finding(Verdict.RIGHT, "artifact/a"), None),
        (Finding(Verdict.WRONG, "artifact/a", "another tree, b"), "wrong: artifact/a: another tree, b"),
        (Finding(Verdict.MOVED, "artifact/a", "no tarball"), "wrong, moved to quarantine: artifact/a: no tarball"),
        (Finding(Verdict.CHANGED, "artifact/a"), "changed or gone meanwhile, left alone: artifact/a"),
        (Finding(Verdict.UNKNOWN, "artifact/two words"), "unknown, left alone: artifact/two words"),
        (Finding(Verdict.UNKNOWN, "artifact/\x1b[2J\n"), r"unknown, left alone: 'artifact/\x1b[2J\n'"),
        (Finding(Verdict.UNKNOWN, "artifact/\udcff"), r"unknown, left alone: 'artifact/\udcff'"),
    ],
)
def test_every_finding_is_at_most_one_printable_line(finding: Finding, line: str | None) -> None:
    assert finding.line == line


def test_only_what_was_checked_is_counted() -> None:
    tally = Tally()
    for verdict in Verdict:
        tally.count(verdict, 100)
    assert tally == Tally(files=3, size_bytes=300, wrong=3, moved=1)
    assert tally.summary(1.25) == "verified 3 files, 300 bytes, 3 wrong (1 moved to quarantine), 1.2 seconds"


def test_a_summary_tells_of_no_quarantine_where_nothing_was_moved() -> None:
    assert Tally(2, 30, wrong=1).summary(0) == "verified 2 files, 30 bytes, 1 wrong, 0.0 seconds"


def test_a_milestone_is_due_once_for_each_part_and_after_a_time_without_one() -> None:
    milestones = Milestones(1000, parts=10, seconds=10, now=100)
    moments = [(99, 101), (100, 102), (150, 103), (450, 104), (499, 113), (499, 114), (499, 115), (1000, 116)]
    due = [milestones.is_due(done, now) for done, now in moments]
    assert due == [False, True, False, True, False, True, False, True]


def test_a_milestone_of_no_work_is_a_matter_of_time() -> None:
    milestones = Milestones(0, parts=10, seconds=10, now=0)
    assert [milestones.is_due(0, now) for now in (0, 9, 10, 11)] == [False, False, True, False]


@pytest.mark.parametrize(
    ("done", "total", "seconds", "line"),
    [
        (Tally(1, 4_000_000), Tally(3, 10_000_000), 2, " 40%  1 of 3 files, 4.0 MB, 2.0 MB/s, 3 s left"),
        (Tally(3, 10_000_000), Tally(3, 10_000_000), 5, "100%  3 of 3 files, 10.0 MB, 2.0 MB/s, 0 s left"),
        (Tally(), Tally(3, 10_000_000), 5, "  0%  0 of 3 files, 0.0 MB, 0.0 MB/s, time left unknown"),
        (Tally(4, 30), Tally(3, 20), 0, "100%  4 of 3 files, 0.0 MB, 0.0 MB/s, 0 s left"),
        (Tally(), Tally(), 0, "  0%  0 of 0 files, 0.0 MB, 0.0 MB/s, time left unknown"),
    ],
)
def test_progress_tells_files_bytes_rate_and_time_left(done: Tally, total: Tally, seconds: float, line: str) -> None:
    assert progress_line(done, total, seconds) == line

from __future__ import annotations

import pytest

from pkgserver_trio.logs.names import chores, log_name

#: 2026-03-01, 05:59:59 UTC.
NOW = 1772344799


def test_a_file_is_named_by_its_hour_in_utc() -> None:
    assert log_name(NOW) == "2026-03-01-05-pkgserver.log"
    assert log_name(NOW + 1) == "2026-03-01-06-pkgserver.log"


@pytest.mark.parametrize("ending", ["", ".gz", ".gz.new"])
def test_what_is_older_than_ten_days_is_removed(ending: str) -> None:
    old, kept = f"2026-02-19-04-pkgserver.log{ending}", f"2026-02-19-05-pkgserver.log{ending}"
    assert chores([kept, old], NOW).remove == [old]


def test_finished_files_are_compressed_the_oldest_first() -> None:
    before, earlier, now, later = (f"2026-03-01-0{hour}-pkgserver.log" for hour in (3, 4, 5, 6))
    assert chores([later, now, earlier, before], NOW).compress == [before, earlier]


@pytest.mark.parametrize(
    "name",
    [
        "2026-03-01-04-pkgserver.log.gz",
        "2026-03-01-04-pkgserver.log.gz.new",
        "2026-03-01-04-pkgserver.log\n",
        "2000-03-01-04-pkgserver.log.1",
        "2000-03-01-pkgserver.log",
        "２０００-03-01-04-pkgserver.log",  # noqa: RUF001 # digits, but not ours
        "access.log",
    ],
)
def test_what_is_compressed_already_or_not_ours_is_let_be(name: str) -> None:
    assert chores([name], NOW) == ([], [])

"""What is known of mirrored objects: bounded, written through, and never older than the clock allows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.mirrors import EPOCH, named

from pkgserver_trio.mirror import object_records
from pkgserver_trio.mirror.freshness import Freshness
from pkgserver_trio.mirror.object_digest import Digest
from pkgserver_trio.mirror.object_head import ObjectHead
from pkgserver_trio.mirror.object_records import ObjectRecord, ObjectRecords

if TYPE_CHECKING:
    from pathlib import Path

RECORD = ObjectRecord(
    ObjectHead.of({"etag": '"a"'}, 3), Freshness(kept=True, seconds=600, may_lag=True, may_outlive=True), EPOCH
)


def test_the_objects_asked_about_longest_ago_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_records, "MAX_OBJECTS", 2)
    records = ObjectRecords(tmp_path / "objects.sqlite", lambda _: False)
    for key in "abc":
        records.save(named(key), RECORD, records.enter(named(key), RECORD))
    records.close()
    records = ObjectRecords(tmp_path / "objects.sqlite", lambda name: name.key == "c")
    assert len(records) == 2
    assert records.get(named("a")) is None
    assert records.get(named("b")) == RECORD
    pointer = records.get(named("c"))
    assert pointer is not None
    assert pointer.freshness.seconds == 60
    assert records.resource(named("a")) is None
    assert records.resource(named("b")) == RECORD.head.resource(named("b"))
    records.close()


@pytest.mark.parametrize(
    ("noted_by", "digest", "sure"),
    [
        ("others", None, False),
        ("others", Digest("crc1", "1"), False),
        ("others", Digest("md5", "1"), True),
        ("this", None, True),
    ],
)
def test_what_was_noted_with_nothing_to_check_is_asked_about_by_who_can_check_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noted_by: str, digest: Digest | None, *, sure: bool
) -> None:
    record = replace(RECORD, head=replace(RECORD.head, digest=digest))
    with monkeypatch.context() as patch:
        if noted_by == "others":
            patch.setattr(object_records, "_CHECKSUMS", "crc1")
        records = ObjectRecords(tmp_path / "objects.sqlite", lambda _: False)
        records.save(named("a"), record, [])
        records.close()
    records = ObjectRecords(tmp_path / "objects.sqlite", lambda _: False)
    assert records.get(named("a")) == (record if sure else record.expired())
    records.close()


def test_a_clock_that_was_moved_back_makes_nothing_fresh() -> None:
    assert RECORD.age(EPOCH + 599) < 0
    assert RECORD.age(EPOCH + 601) > 0
    assert RECORD.age(EPOCH - 10) == float("inf")
    assert RECORD.expired().age(EPOCH) == float("inf")

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit import tarballs
from tests.unit.tarballs import AMPLE, BLOCK, END, member_of, pieces, tarfile_archive

from pkgserver_trio.tarballs.inflate import TarballError
from pkgserver_trio.tarballs.stream import TarLimits, TarStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Call = tuple[object, ...]

DIALECTS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
LONG = "/".join(["a-long-folder-name"] * 20) + "/file"


@dataclass
class Recorder:
    """A sink that writes down its calls."""

    calls: list[Call] = field(default_factory=list)
    content: bytearray = field(default_factory=bytearray)
    begun: Call = ()

    def begin_file(self, path: bytes, size_bytes: int, *, executable: bool) -> Callable[[memoryview], object]:
        self.content = bytearray()
        self.begun = (path, size_bytes, executable)
        return self.content.extend

    def end_file(self) -> None:
        path, size_bytes, executable = self.begun
        assert len(self.content) == size_bytes
        self.calls.append(("file", path, bytes(self.content), executable))

    def directory(self, path: bytes) -> None:
        self.calls.append(("directory", path))

    def symlink(self, path: bytes, target: bytes) -> None:
        self.calls.append(("symlink", path, target))

    def hardlink(self, path: bytes, target: bytes) -> None:
        self.calls.append(("hardlink", path, target))


def parse(archive: bytes, cuts: Iterable[int] = (), limits: TarLimits = AMPLE) -> list[Call]:
    recorder = Recorder()
    stream = TarStream(limits, recorder)
    for piece in pieces(archive, cuts):
        stream.feed(piece)
    stream.finish()
    return recorder.calls


def a_file(path: bytes, content: bytes = b"", *, executable: bool = False) -> Call:
    return ("file", path, content, executable)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_of_the_standard_library_is_read(dialect: str) -> None:
    archive = tarfile_archive(
        [
            member_of("d", kind=tarfile.DIRTYPE, mode=0o755),
            member_of("d/run", b"#!/bin/sh\n", mode=0o755),
            member_of("d/" + "x" * 90, b"y" * 1025),
            member_of("folder/" * 20 + "long", b"z"),
            member_of("d/link", kind=tarfile.SYMTYPE, target="../elsewhere"),
            member_of("d/again", kind=tarfile.LNKTYPE, target="d/run"),
            member_of("d/\u00fc\u4e16.jl", b"non-ASCII"),
        ],
        dialect=DIALECTS[dialect],
    )
    assert parse(archive) == [
        ("directory", b"d/"),
        a_file(b"d/run", b"#!/bin/sh\n", executable=True),
        a_file(b"d/" + b"x" * 90, b"y" * 1025),
        a_file(b"folder/" * 20 + b"long", b"z"),
        ("symlink", b"d/link", b"../elsewhere"),
        ("hardlink", b"d/again", b"d/run"),
        a_file("d/\u00fc\u4e16.jl".encode(), b"non-ASCII"),
    ]


@pytest.mark.parametrize("dialect", ["gnu", "pax"])
def test_names_and_targets_longer_than_their_fields_are_read(dialect: str) -> None:
    members = [member_of(LONG, b"content"), member_of("l" * 101, kind=tarfile.SYMTYPE, target=LONG)]
    assert parse(tarfile_archive(members, dialect=DIALECTS[dialect])) == [
        a_file(LONG.encode(), b"content"),
        ("symlink", b"l" * 101, LONG.encode()),
    ]


PAX = b"".join(
    [
        tarballs.pax({b"comment": b"of the whole archive"}, kind=b"g"),
        tarballs.pax({b"path": b"renamed", b"mtime": b"1.5"}),
        tarballs.file(b"field", b"content"),
        tarballs.file(b"plain"),
    ]
)

READABLE = {
    "empty": (b"", []),
    "V7": (tarballs.header(b"f", kind=b"\0", magic=tarballs.V7, mode=0o700), [a_file(b"f", executable=True)]),
    "V7 directory": (tarballs.header(b"d/", kind=b"\0", magic=tarballs.V7), [("directory", b"d/")]),
    "the root": (tarballs.directory(b"./"), [("directory", b"./")]),
    "contiguous": (tarballs.header(b"f", kind=b"7"), [a_file(b"f")]),
    "all of the name field": (tarballs.file(b"n" * 100), [a_file(b"n" * 100)]),
    "prefix": (tarballs.header(b"name", prefix=b"pre/fix"), [a_file(b"pre/fix/name")]),
    "GNU has no prefix": (tarballs.header(b"name", prefix=b"12345", magic=tarballs.GNU), [a_file(b"name")]),
    "group's executable bit only": (tarballs.file(b"f", mode=0o654), [a_file(b"f")]),
    "owner's executable bit only": (tarballs.file(b"f", mode=0o100), [a_file(b"f", executable=True)]),
    "signed checksum": (tarballs.header(b"\xfcber", signed=True), [a_file(b"\xfcber")]),
    "base-256 size": (
        tarballs.header(b"f", size=b"\x80" + (3).to_bytes(11, "big")) + tarballs.padded(b"abc"),
        [a_file(b"f", b"abc")],
    ),
    "size padded with spaces": (
        tarballs.header(b"f", size=b"          3 ") + tarballs.padded(b"abc"),
        [a_file(b"f", b"abc")],
    ),
    "no size at all": (tarballs.header(b"f", size=bytes(12)), [a_file(b"f")]),
    "garbage as padding": (
        tarballs.header(b"f", size=3) + b"abc".ljust(BLOCK, b"?") + tarballs.file(b"g"),
        [a_file(b"f", b"abc"), a_file(b"g")],
    ),
    "pax": (PAX, [a_file(b"renamed", b"content"), a_file(b"plain")]),
    "pax size": (
        tarballs.pax({b"size": b"3"}) + tarballs.header(b"f") + tarballs.padded(b"abc"),
        [a_file(b"f", b"abc")],
    ),
    "pax value with signs in it": (tarballs.pax({b"path": b"a=b\nc"}) + tarballs.file(b"f"), [a_file(b"a=b\nc")]),
    "empty pax header": (tarballs.extension(b"x", b"") + tarballs.file(b"f"), [a_file(b"f")]),
    "global link target": (
        tarballs.pax({b"linkpath": b"t"}, kind=b"g") + tarballs.symlink(b"a", b"x") + tarballs.symlink(b"b", b"y"),
        [("symlink", b"a", b"t"), ("symlink", b"b", b"t")],
    ),
    "a member's own word wins over the global one": (
        tarballs.pax({b"path": b"own"}) + tarballs.pax({b"path": b"all"}, kind=b"g") + tarballs.file(b"f"),
        [a_file(b"own")],
    ),
    "the later extension wins": (
        tarballs.pax({b"path": b"pax"}) + tarballs.extension(b"L", b"gnu\0") + tarballs.file(b"f"),
        [a_file(b"gnu")],
    ),
    "GNU long target": (
        tarballs.extension(b"K", b"t" * 300 + b"\0") + tarballs.symlink(b"l", b"t"),
        [("symlink", b"l", b"t" * 300)],
    ),
}


@pytest.mark.parametrize("name", READABLE)
def test_every_way_to_write_a_member_is_read(name: str) -> None:
    members, calls = READABLE[name]
    assert parse(members + END) == calls
    assert parse(members + END, range(len(members + END))) == calls


@given(name=st.sampled_from(sorted(READABLE)), cuts=st.lists(st.integers(0, 3000), max_size=8))
@settings(max_examples=60, deadline=None)
def test_the_cut_into_pieces_never_matters(name: str, cuts: list[int]) -> None:
    members, calls = READABLE[name]
    assert parse(members + END, cuts) == calls


UNREADABLE = {
    "absent checksum": (tarballs.file(b"f")[:148] + bytes(8) + tarballs.file(b"f")[156:], "wrong checksum"),
    "wrong checksum": (b"g" + tarballs.file(b"f")[1:], "wrong checksum"),
    "text": (b"no tar".ljust(BLOCK, b"."), "no number"),
    "size in letters": (tarballs.header(b"f", size=b"12monkeys\0\0\0"), "no number"),
    "size with an underscore": (tarballs.header(b"f", size=b"0000_0003\0\0\0"), "no number"),
    "signed size": (tarballs.header(b"f", size=b"-0000000003\0"), "no number"),
    "decimal size": (tarballs.header(b"f", size=b"00000000009\0"), "no number"),
    "negative base-256 size": (tarballs.header(b"f", size=b"\xff" * 12), "no number"),
    "gigantic size": (tarballs.header(b"f", size=b"\x80" + b"\xff" * 11), "alone is larger"),
    "no name": (tarballs.file(b""), "is empty"),
    "file named like a directory": (tarballs.file(b"f/"), "named like a directory"),
    "file named like the root": (tarballs.file(b"."), "named like a directory"),
    "link named like a directory": (tarballs.symlink(b"d/.", b"t"), "named like a directory"),
    "symlink with content": (tarballs.header(b"l", kind=b"2", target=b"t", size=9), "has content"),
    "hard link with content": (tarballs.header(b"l", kind=b"1", target=b"t", size=9), "has content"),
    "directory with content": (tarballs.header(b"d", kind=b"5", size=9), "has content"),
    "character device": (tarballs.header(b"f", kind=b"3"), "a device"),
    "block device": (tarballs.header(b"f", kind=b"4"), "a device"),
    "FIFO": (tarballs.header(b"f", kind=b"6"), "a FIFO"),
    "unknown type": (tarballs.header(b"f", kind=b"V"), "of unknown type b'V'"),
    "large extension": (tarballs.header(b"f", kind=b"x", size=(1 << 20) + 1), "too large"),
    "pax without a length": (tarballs.extension(b"x", b"path=p\n"), "malformed"),
    "pax record without a key": (tarballs.extension(b"x", b"5 =p\n"), "malformed"),
    "pax record that is too long": (tarballs.extension(b"x", b"99 path=p\n"), "malformed"),
    "pax record that is too short": (tarballs.extension(b"x", b"3 path=p\n"), "malformed"),
    "pax record that ends early": (tarballs.extension(b"x", b"9 path=pq\n"), "malformed"),
    "pax record of length 0": (tarballs.extension(b"x", b"0 path=p\n"), "malformed"),
    "pax size in letters": (tarballs.pax({b"size": b"many"}), "no number"),
    "negative pax size": (tarballs.pax({b"size": b"-1"}), "no number"),
    "empty pax size": (tarballs.pax({b"size": b""}), "no number"),
    "endless pax size": (tarballs.pax({b"size": b"1" * 5000}), "no number"),
    "gigantic pax size": (tarballs.pax({b"size": b"9" * 20}) + tarballs.file(b"f"), "alone is larger"),
    "extension without its member": (tarballs.pax({b"path": b"p"}), "its member is missing"),
    "something after the end": (END + tarballs.file(b"f"), "something after the end of the archive"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_wrong_is_refused_and_named(name: str) -> None:
    members, complaint = UNREADABLE[name]
    with pytest.raises(TarballError, match=complaint):
        parse(members + END)


def test_the_standard_library_would_read_what_we_build() -> None:
    archive = tarballs.directory(b"d/") + tarballs.file(b"d/f", b"content") + tarballs.symlink(b"l", b"d/f") + END
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert tar.getnames() == ["d", "d/f", "l"]


@pytest.mark.parametrize("zeros", [BLOCK, BLOCK + 1, 2 * BLOCK, 20 * BLOCK])
def test_one_block_of_zeros_and_any_more_zeros_end_an_archive(zeros: int) -> None:
    assert parse(tarballs.file(b"f") + bytes(zeros)) == [a_file(b"f")]


def test_an_archive_cut_anywhere_is_truncated_or_ends_behind_a_whole_member() -> None:
    members = PAX + tarballs.file(b"f", b"content" * 100)
    whole = parse(members)
    members_before = {0: 0, 2 * BLOCK: 0, len(PAX) - BLOCK: 1, len(PAX): 2}  # the first is a global header
    for length in range(len(members)):
        if length in members_before:
            assert parse(members[:length]) == whole[: members_before[length]]
        else:
            with pytest.raises(TarballError, match="the archive is truncated"):
                parse(members[:length])


def test_unpacked_bytes_are_limited_to_the_byte() -> None:
    archive = tarballs.file(b"f", b"content") + END
    assert parse(archive, limits=TarLimits(len(archive), 9)) == [a_file(b"f", b"content")]
    with pytest.raises(TarballError, match=f"more than {len(archive) - 1} bytes"):
        parse(archive, limits=TarLimits(len(archive) - 1, 9))


def test_content_reaches_its_reader_in_slices_as_large_as_the_pieces() -> None:
    slices: list[int] = []

    class Measuring(Recorder):
        def begin_file(self, path: bytes, size_bytes: int, *, executable: bool) -> Callable[[memoryview], object]:
            super().begin_file(path, size_bytes, executable=executable)
            return self.measure

        def measure(self, content: memoryview) -> None:
            slices.append(len(content))
            self.content += content

    stream = TarStream(AMPLE, Measuring())
    archive = tarballs.file(b"f", b"x" * 100_000) + END
    for piece in pieces(archive, [BLOCK + 60_000]):
        stream.feed(piece)
    assert slices == [60_000, 40_000]

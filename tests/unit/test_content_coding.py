from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.oddities.packing import FNAME, HEADERS, head, packed_with
from tests.unit.tarballs import END, gzipped

from pkgserver_trio.upstream.content_coding import is_gzip_twice

TARBALL = gzipped(END)
ENOUGH_BYTES = 4096


@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("name", [name for name in HEADERS if name != "a long name"])
def test_a_tarball_that_is_packed_again_is_gzip_twice_however_it_is_written(name: str, level: int) -> None:
    assert is_gzip_twice(packed_with(TARBALL, HEADERS[name], level=level)) is True


@pytest.mark.parametrize(
    "body",
    [
        TARBALL,
        gzipped(TARBALL[:1] + b"?" + TARBALL[2:]),
        zlib.compress(TARBALL),
        b"<html>no such artifact</html>",
        b"\x28\xb5\x2f\xfd" + TARBALL,
        TARBALL[:1] + b"?",
        b"\0" + gzipped(TARBALL),
        packed_with(TARBALL, head()[:2] + b"\7" + head()[3:]),
        TARBALL[:10] + b"\xff" * 20,
    ],
)
def test_anything_else_is_not(body: bytes) -> None:
    assert is_gzip_twice(body) is False


@given(st.binary(max_size=3) | st.binary(max_size=20).map(lambda rest: b"\x1f\x8b" + rest))
def test_the_bytes_inside_tell_and_no_later_byte_tells_otherwise(content: bytes) -> None:
    packed = gzip.compress(content, mtime=0)
    told = [is_gzip_twice(packed[:length]) for length in range(len(packed) + 1)]
    known = [answer for answer in told if answer is not None]
    assert told[0] is None
    assert told == [None] * (len(told) - len(known)) + known
    assert set(known) == ({content.startswith(b"\x1f\x8b")} if len(content) > 1 else set())


@given(st.sampled_from([b"", b"\x1f\x8b", head()]), st.binary(max_size=100))
def test_no_start_is_too_odd_to_be_judged(start: bytes, rest: bytes) -> None:
    assert is_gzip_twice(start + rest) is False or (start + rest)[:2] == b"\x1f\x8b"[: len(start + rest)]


@pytest.mark.parametrize(
    "endless",
    [
        head(FNAME, name=b"n" * ENOUGH_BYTES),
        head() + b"\0\0\0\xff\xff" * ENOUGH_BYTES,
        gzip.compress(b"") * ENOUGH_BYTES,
        gzip.compress(b"x") * ENOUGH_BYTES,
    ],
    ids=["a name", "blocks of nothing", "members of nothing", "a member of one byte"],
)
def test_what_never_tells_is_not_waited_for(endless: bytes) -> None:
    assert is_gzip_twice(endless[: ENOUGH_BYTES - 1]) is None
    assert is_gzip_twice(endless[:ENOUGH_BYTES]) is False

"""Damaged tarballs: refused with a TarballError, or hashed to what the slow reader sees in them; never more memory."""

from __future__ import annotations

import tarfile
import tracemalloc
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fuzz.mutations import mutate_tarball
from tests.fuzz.targets import TARGETS, FindingError, check_tarball
from tests.unit import tarballs
from tests.unit.oddities import sparse
from tests.unit.tarballs import BLOCK, END, extension, file, gzipped, header, pax
from tests.unit.test_tree_hash import members_of, trees

from pkgserver_trio.tarballs.tree_hash import TarballError, TarLimits

if TYPE_CHECKING:
    from tests.unit.trees import Node

SEEDS = TARGETS["tarball"].seeds
MIB = 1 << 20


@given(tree=trees, damage=st.integers(0), dialect=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_damaged_tarball_is_refused_or_is_another_tree(tree: dict[str, Node], damage: int, dialect: int) -> None:
    archive = tarballs.tarfile_archive(members_of(tree, explicit=True), dialect=dialect)
    check_tarball(gzipped(archive))
    check_tarball(mutate_tarball(Random(damage), archive, SEEDS))  # noqa: S311 - no secret


def test_a_reader_that_disagrees_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.targets.read_tree", lambda archive: {})
    with pytest.raises(FindingError, match="slowly"):
        check_tarball(gzipped(file(b"f") + END))


LARGE = {
    "a large file": file(b"f", bytes(64 * MIB)),
    "many extension headers": pax({b"comment": b"x" * MIB}) * 30,
    "an extension header too large": header(b"f", kind=b"x", size=MIB + 1) + bytes(8 * MIB),
    "pax words without end": extension(b"x", b"".join(b"11 k=%06d\n" % place for place in range(95_000))) * 4,
    "an old sparse map without end": sparse.old(tuple((place, b"") for place in range(50_000)), 50_000),
    "a sparse map without end": sparse.pax_1_0(tuple((place, b"") for place in range(80_000)), 80_000),
    "a sparse map in words": sparse.pax_0_0(tuple((place, b"") for place in range(18_000)), 18_000),
    "nothing but holes": sparse.pax_0_1((), 256 * MIB),
    "a deep folder": b"".join(pax({b"path": b"d/" * 2040 + b"%d" % place}) + file(b"f") for place in range(99)),
    "long names": b"".join(extension(b"L", b"%04d" % place + b"n" * 4000) + file(b"f") for place in range(2000)),
    "zeros without end": file(b"f") + bytes(64 * MIB),
}


@pytest.mark.parametrize("name", LARGE)
def test_no_tarball_takes_more_memory_than_its_limits_allow(name: str) -> None:
    packed = gzipped(LARGE[name] + bytes(2 * BLOCK))
    limits = TarLimits(max_unpacked_bytes=512 * MIB, max_members=20_000)
    tracemalloc.start()
    try:
        tarballs.hashes_of(packed, cuts=range(0, len(packed), 1 << 16), limits=limits)
    except TarballError:
        pass
    finally:
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak_bytes < 40 * MIB + len(packed)

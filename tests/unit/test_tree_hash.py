from __future__ import annotations

import tarfile
import zlib
from hashlib import sha1
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit import tarballs
from tests.unit.tarballs import BLOCK, EMPTY_TREE, END, gzipped, hashes_of, hashes_of_members, member_of
from tests.unit.trees import File, Link, Node, reference, walk

from pkgserver_trio.tarballs.inflate import Inflater, load_library
from pkgserver_trio.tarballs.tree_hash import TarballError, TarLimits, Tree, TreeHasher, TreeHashes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.unit.trees import Git

    from pkgserver_trio.tarballs.inflate import InflateLibrary


SMALL = gzipped(tarballs.file(b"d/f", b"content" * 20) + tarballs.symlink(b"l", b"d/f") + END)

SPECIAL_NAMES = ["a", "a.b", "a-b", "a0", "b", "\u00fc\u4e16\U0001f300", "n" * 120, "\u00e9" * 125, " ", "-x", "Z"]
names = st.sampled_from(SPECIAL_NAMES) | st.text("abyz.-_09 \u00df", min_size=1, max_size=9)
safe_names = names.filter(lambda name: name not in {".", ".."})
leaves = st.builds(File, st.binary(max_size=1200), st.booleans()) | st.builds(Link, names | st.just("../" * 60 + "t"))
trees = st.recursive(
    st.dictionaries(safe_names, leaves, max_size=4),
    lambda children: st.dictionaries(safe_names, children | leaves, max_size=4),
    max_leaves=8,
)


def members_of(tree: Mapping[str, Node], *, explicit: bool) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """The members of an archive of ``tree``; unless ``explicit``, only empty directories have their own."""
    for path, node in walk(tree):
        if isinstance(node, File):
            yield member_of(path, node.content, mode=0o755 if node.executable else 0o644)
        elif isinstance(node, Link):
            yield member_of(path, kind=tarfile.SYMTYPE, target=node.target)
        elif explicit or not node:
            yield member_of("./" + path, kind=tarfile.DIRTYPE, mode=0o755)


@given(tree=trees, explicit=st.booleans(), backwards=st.booleans(), cuts=st.lists(st.integers(0, 2000), max_size=6))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_hash_is_that_of_git_and_of_the_definition_whatever_the_chunking(
    *, git: Git, tree: dict[str, Node], explicit: bool, backwards: bool, cuts: list[int]
) -> None:
    members = list(members_of(tree, explicit=explicit))
    members = members[::-1] if backwards else members
    dialect = tarfile.PAX_FORMAT if explicit else tarfile.GNU_FORMAT
    packed = gzipped(tarballs.tarfile_archive(members, dialect=dialect))
    expected = TreeHashes(skip_empty=git.tree_hash(tree), with_empty=reference(tree)[1].hex())
    assert hashes_of(packed, cuts=cuts) == expected


def test_files_sort_before_folders_of_the_same_beginning_only_where_git_sorts_them_so(git: Git) -> None:
    tree: dict[str, Node] = {name: File(b"x") for name in ("a", "a.b", "a-b", "a0", "b")}
    tree["a.c"] = tree["a+"] = tree["az"] = {"a": File(b"y")}
    packed = gzipped(tarballs.tarfile_archive(members_of(tree, explicit=False), dialect=tarfile.USTAR_FORMAT))
    assert hashes_of(packed) == TreeHashes(git.tree_hash(tree), reference(tree)[1].hex())


def test_a_tree_may_be_called_by_either_of_its_hashes_and_no_other() -> None:
    hashes = hashes_of_members(tarballs.directory(b"a"))
    assert hashes.skip_empty != hashes.with_empty
    assert hashes.include(hashes.skip_empty)
    assert hashes.include(hashes.with_empty)
    assert not hashes.include("0" * 40)


def test_an_empty_archive_is_gits_empty_tree() -> None:
    assert hashes_of_members() == TreeHashes(EMPTY_TREE, EMPTY_TREE)
    assert hashes_of_members(tarballs.directory(b"./")) == TreeHashes(EMPTY_TREE, EMPTY_TREE)


def test_nested_empty_folders_count_with_empty_and_vanish_with_skip_empty() -> None:
    nested: dict[str, Node] = {"a": {"b": {"c": {}}}, "f": File(b"")}
    hashes = hashes_of_members(tarballs.directory(b"a/b/c"), tarballs.file(b"f"))
    assert hashes.with_empty == reference(nested)[1].hex()
    assert hashes.skip_empty == reference({"f": File(b"")})[1].hex()


def test_a_tree_of_empty_folders_only_is_empty_for_git() -> None:
    hashes = hashes_of_members(tarballs.directory(b"a/b"), tarballs.directory(b"c"))
    assert hashes == TreeHashes(EMPTY_TREE, reference({"a": {"b": {}}, "c": {}})[1].hex())


SAME_TREE = {
    "plain": [tarballs.file(b"d/f", b"x"), tarballs.file(b"d/g", b"y")],
    "directories first": [tarballs.directory(b"d/"), tarballs.file(b"d/f", b"x"), tarballs.file(b"d/g", b"y")],
    "directories last": [tarballs.file(b"d/g", b"y"), tarballs.file(b"d/f", b"x"), tarballs.directory(b"d")],
    "directory twice": [
        tarballs.directory(b"d"),
        tarballs.directory(b"d/"),
        tarballs.file(b"d/f", b"x"),
        tarballs.file(b"d/g", b"y"),
    ],
    "dots and slashes": [tarballs.directory(b"./"), tarballs.file(b"././d//f", b"x"), tarballs.file(b"d/./g", b"y")],
}


@pytest.mark.parametrize("name", SAME_TREE)
def test_neither_order_nor_spelling_matters(name: str) -> None:
    expected = reference({"d": {"f": File(b"x"), "g": File(b"y")}})[1].hex()
    assert hashes_of_members(*SAME_TREE[name]) == TreeHashes(expected, expected)


def test_a_hard_link_has_the_mode_and_content_of_its_target() -> None:
    hashes = hashes_of_members(
        tarballs.file(b"d/run", b"x", mode=0o755),
        tarballs.symlink(b"s", b"elsewhere"),
        tarballs.hardlink(b"again", b"./d/run"),
        tarballs.hardlink(b"t", b"s"),
    )
    run, link = File(b"x", executable=True), Link("elsewhere")
    assert hashes.with_empty == reference({"d": {"run": run}, "s": link, "again": run, "t": link})[1].hex()


def test_a_name_need_not_be_utf_8() -> None:
    content = b"100644 \xff\xfe\0" + sha1(b"blob 0\0", usedforsecurity=False).digest()
    expected = sha1(b"tree %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    assert hashes_of_members(tarballs.file(b"\xff\xfe")).with_empty == expected


def test_a_tree_deeper_than_the_interpreters_recursion_is_hashed() -> None:
    depth = 2000
    members = tarballs.pax({b"path": b"d/" * depth + b"f"}) + tarballs.file(b"f")
    hashes = hashes_of_members(members, limits=TarLimits(1 << 20, 100_000))
    entry = b"100644 f\0" + reference(File(b""))[1]
    for _ in range(depth + 1):
        digest = sha1(b"tree %d\0" % len(entry) + entry, usedforsecurity=False).digest()
        entry = b"40000 d\0" + digest
    assert hashes == TreeHashes(entry[-20:].hex(), entry[-20:].hex())


REFUSED = {
    "absolute": ([tarballs.file(b"/etc/passwd")], "leads out of the tree"),
    "upwards": ([tarballs.file(b"../f")], "leads out of the tree"),
    "upwards inside": ([tarballs.file(b"a/../../f")], "leads out of the tree"),
    "upwards at the end": ([tarballs.directory(b"a/..")], "leads out of the tree"),
    "NUL": ([tarballs.pax({b"path": b"a\0b"}), tarballs.file(b"f")], "holds a NUL"),
    "NUL in a GNU name": ([tarballs.extension(b"L", b"a\0b\0"), tarballs.file(b"f")], "holds a NUL"),
    "NUL in a target": ([tarballs.pax({b"linkpath": b"a\0b"}), tarballs.symlink(b"l", b"t")], "holds a NUL"),
    "empty directory name": ([tarballs.directory(b"")], "is empty"),
    "empty target": ([tarballs.symlink(b"l", b"")], "is empty"),
    "long name": ([tarballs.pax({b"path": b"a" * 4097}), tarballs.file(b"f")], "longer than 4096 bytes"),
    "long target": ([tarballs.pax({b"linkpath": b"a" * 4097}), tarballs.symlink(b"l", b"t")], "longer than 4096 bytes"),
    "file twice": ([tarballs.file(b"f"), tarballs.file(b"./f")], "b'./f' is in the archive twice"),
    "file and link": ([tarballs.file(b"f"), tarballs.symlink(b"f", b"t")], "twice"),
    "link and hard link": ([tarballs.symlink(b"f", b"t"), tarballs.hardlink(b"f", b"f")], "twice"),
    "directory, then file": ([tarballs.directory(b"d"), tarballs.file(b"d")], "twice"),
    "implied directory, then file": ([tarballs.file(b"d/f"), tarballs.file(b"d")], "twice"),
    "file, then directory": ([tarballs.file(b"d"), tarballs.directory(b"d")], "a directory and a file"),
    "file in a file": ([tarballs.file(b"d"), tarballs.file(b"d/e/f")], "b'd' is a directory and a file"),
    "file below a link": ([tarballs.symlink(b"d", b"/etc"), tarballs.file(b"d/f")], "a directory and a file"),
    "hard link to nothing": ([tarballs.hardlink(b"l", b"f")], "no earlier file"),
    "hard link to what comes later": ([tarballs.hardlink(b"l", b"f"), tarballs.file(b"f")], "no earlier file"),
    "hard link to a directory": ([tarballs.directory(b"d"), tarballs.hardlink(b"l", b"d")], "no earlier file"),
    "hard link to the root": ([tarballs.hardlink(b"l", b".")], "no earlier file"),
    "hard link to itself": ([tarballs.hardlink(b"l", b"l")], "no earlier file"),
    "hard link upwards": ([tarballs.hardlink(b"l", b"../f")], "leads out of the tree"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_tarball_that_no_client_should_unpack_is_refused_and_the_reason_named(name: str) -> None:
    members, complaint = REFUSED[name]
    with pytest.raises(TarballError, match=complaint):
        hashes_of_members(*members)


def test_the_root_is_no_file() -> None:
    with pytest.raises(TarballError, match="twice"):
        Tree(9).symlink(b".", b"t")


def test_what_was_refused_stays_refused() -> None:
    hasher = TreeHasher(tarballs.AMPLE)
    with pytest.raises(TarballError, match="damaged"):
        hasher.feed(b"no gzip, but long enough to tell")
    with pytest.raises(TarballError, match="damaged"):
        hasher.feed(SMALL)
    with pytest.raises(TarballError, match="damaged"):
        hasher.finish()


def test_members_are_counted_and_so_are_the_folders_they_imply() -> None:
    members = [
        tarballs.file(b"a/b/f"),
        tarballs.symlink(b"l", b"t"),
        tarballs.directory(b"a"),
        tarballs.directory(b"."),
    ]
    hashes_of_members(*members, limits=TarLimits(1 << 20, 4))
    with pytest.raises(TarballError, match="more than 3 members"):
        hashes_of_members(*members, limits=TarLimits(1 << 20, 3))


def test_a_long_name_counts_as_several_members() -> None:
    members = [tarballs.pax({b"path": b"n" * 255}), tarballs.file(b"f"), tarballs.pax({b"path": b"n" * 256})]
    hashes_of_members(*members, tarballs.file(b"g"), limits=TarLimits(1 << 20, 3))
    with pytest.raises(TarballError, match="more than 2 members"):
        hashes_of_members(*members, tarballs.file(b"g"), limits=TarLimits(1 << 20, 2))


def test_a_bomb_ends_at_the_limit_of_unpacked_bytes() -> None:
    bomb = gzipped(bytes(50 << 20))
    hashes_of(bomb, limits=TarLimits(max_unpacked_bytes=50 << 20, max_members=1))
    with pytest.raises(TarballError, match="more than 1048576 bytes"):
        hashes_of(bomb, limits=TarLimits(max_unpacked_bytes=1 << 20, max_members=1))


def test_a_tarball_cut_at_any_block_is_truncated_or_has_another_hash() -> None:
    first, second = tarballs.file(b"d/f", b"content" * 200), tarballs.symlink(b"l", b"d/f")
    members = first + second
    for length in range(BLOCK, len(members), BLOCK):
        if length == len(first):
            assert hashes_of(gzipped(members[:length])) == hashes_of_members(first) != hashes_of_members(members)
        else:
            with pytest.raises(TarballError, match="truncated"):
                hashes_of(gzipped(members[:length]))


def test_a_compressed_stream_cut_at_any_byte_is_truncated() -> None:
    for length in range(len(SMALL)):
        with pytest.raises(TarballError, match="truncated"):
            hashes_of(SMALL[:length])


@pytest.mark.parametrize("library", [load_library(), zlib], ids=["fastest", "zlib"])
def test_no_flipped_bit_ever_gives_another_hash(library: InflateLibrary) -> None:
    right = hashes_of(SMALL)
    for position in range(len(SMALL) * 8):
        damaged = bytearray(SMALL)
        damaged[position // 8] ^= 1 << position % 8
        try:
            assert hashes_of(bytes(damaged), inflater=Inflater(library)) == right
        except TarballError:
            continue

"""Real archivers write, real archivers read: both must see the trees that the tree hash sees."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
from tests.conftest import require
from tests.unit.oddities.members import MEMBERS
from tests.unit.oddities.sparse import SPARSE
from tests.unit.tarballs import END, gzipped, hashes_of, hashes_of_members
from tests.unit.trees import File, Git, Link, Node, hashes_of_tree, walk

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

ODDITIES = {**MEMBERS, **{f"sparse, {name}": oddity for name, oddity in SPARSE.items()}}

SHORT: dict[str, Node] = {
    "a": {"b": {"empty": File(b""), "run": File(b"#!/bin/sh\n", executable=True)}, "none": {}},
    "a.b": File(b"x" * 513),
    "a-b": {"\u00fc \n*": File(b"y" * 512)},
    "absolute": Link("/etc/passwd"),
    "dangling": Link("../" * 20 + "nothing"),
}
LONG_IN_UTF_8: dict[str, Node] = {
    **SHORT,
    "n" * 200: {"m" * 250: {"o" * 250: File(b"deep")}},
    "link": Link("t" * 3000),
}
LONG: dict[str, Node] = {**LONG_IN_UTF_8, "\udcff\udcfe": File(b"a name that is no UTF-8")}
HOLES: tuple[tuple[int, bytes], ...] = tuple((place * 200_000, b"part %d" % place) for place in range(1, 30))

GNU_TAR = {
    "v7": (["--format=v7"], SHORT),
    "ustar": (["--format=ustar"], SHORT),
    "oldgnu": (["--format=oldgnu"], LONG),
    "gnu": (["--format=gnu"], LONG),
    "pax": (["--format=pax"], LONG),
    "pax with all attributes": (["--format=pax", "--xattrs", "--acls", "--selinux"], LONG),
    "blocks of 1": (["--blocking-factor=1"], LONG),
    "sorted": (["--sort=name"], LONG),
    "numeric owners far away": (["--format=gnu", "--owner=4294967294", "--mtime=@-1"], LONG),
}
BSDTAR = {"ustar": SHORT, "gnutar": LONG, "pax": LONG_IN_UTF_8}  # it complains of other names in pax
PACKAGES = {"tar": "tar", "bsdtar": "libarchive-tools"}
SPARSE_WAYS = ["--format=gnu", "--sparse-version=0.0", "--sparse-version=0.1", "--sparse-version=1.0"]


@pytest.fixture(scope="module")
def git(tmp_path_factory: pytest.TempPathFactory) -> Git:
    return Git(tmp_path_factory.mktemp("git"))


def unpack(tree: dict[str, Node], folder: Path) -> Path:
    """Write the tree into the folder; two names of one file where it holds an executable."""
    folder.mkdir()
    for path, node in walk(tree):
        Git.write(folder / path, node)
    os.link(folder / "a/b/run", folder / "a/again")
    return folder


def with_link(tree: dict[str, Node]) -> dict[str, Node]:
    above = tree["a"]
    assert isinstance(above, dict)
    return {**tree, "a": {**above, "again": File(b"#!/bin/sh\n", executable=True)}}


def run_archiver(*command: str, folder: Path, packed: bytes = b"") -> bytes:
    """Run it in the folder, with ``packed`` as its input; return its output."""
    name = command[0]
    require(name, available=shutil.which(name) is not None, how_to_get=f"apt-get install {PACKAGES[name]}")
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, cwd=folder, env=environment, input=packed, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_readable(folder: Path) -> None:
    """Let git read what was unpacked with a mode of 0: not everybody who runs this is root."""
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o400)


@pytest.mark.parametrize("way", GNU_TAR)
def test_what_gnu_tar_writes_has_the_hash_of_git(git: Git, tmp_path: Path, way: str) -> None:
    options, tree = GNU_TAR[way]
    folder = unpack(tree, tmp_path / "tree")
    packed = run_archiver("tar", *options, "-czf-", ".", folder=folder)
    assert hashes_of(packed) == hashes_of_tree(with_link(tree))
    assert hashes_of(packed).skip_empty == git.tree_hash_of(folder)


@pytest.mark.parametrize("dialect", BSDTAR)
def test_what_bsdtar_writes_has_the_hash_of_git(git: Git, tmp_path: Path, dialect: str) -> None:
    folder = unpack(BSDTAR[dialect], tmp_path / "tree")
    packed = run_archiver("bsdtar", f"--format={dialect}", "-czf-", ".", folder=folder)
    assert hashes_of(packed).skip_empty == git.tree_hash_of(folder)


@pytest.mark.parametrize("way", SPARSE_WAYS)
def test_a_sparse_file_of_gnu_tar_is_read_in_each_dialect(tmp_path: Path, way: str) -> None:
    with (tmp_path / "holes").open("wb") as file:
        for offset, part in HOLES:
            file.seek(offset)
            file.write(part)
        file.truncate(7_000_001)
    content = (tmp_path / "holes").read_bytes()
    packed = run_archiver("tar", "--sparse", "--hole-detection=raw", way, "-czf-", "holes", folder=tmp_path)
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert tar.getmember("holes").issparse()
    assert hashes_of(packed) == hashes_of_tree({"holes": File(content)})


@pytest.mark.parametrize("dialect", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_python_writes_has_the_hash_of_git(git: Git, tmp_path: Path, dialect: int) -> None:
    folder = unpack(SHORT if dialect == tarfile.USTAR_FORMAT else LONG, tmp_path / "tree")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz", format=dialect) as tar:
        tar.add(folder, arcname=".")
    assert hashes_of(archive.getvalue()).skip_empty == git.tree_hash_of(folder)


def test_what_git_archives_has_the_hash_of_its_tree(git: Git, tmp_path: Path) -> None:
    folder = unpack(LONG, tmp_path / "tree")
    tree_hash = git.tree_hash_of(folder)
    packed = git.archive(git.commit(tree_hash))
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert len(tar.pax_headers["comment"]) == 40
    assert hashes_of(packed).skip_empty == tree_hash


# Of two pax headers of one member, GNU tar forgets the first; we add them up, as Julia's Tar does (docs/decisions/006).
@pytest.mark.parametrize("name", [name for name in ODDITIES if name != "pax: two headers"])
def test_gnu_tar_unpacks_every_oddity_to_the_tree_that_was_hashed(git: Git, tmp_path: Path, name: str) -> None:
    run_archiver("tar", "--no-same-owner", "-xzf-", folder=tmp_path, packed=gzipped(ODDITIES[name].members + END))
    make_readable(tmp_path)
    assert git.tree_hash_of(tmp_path) == hashes_of_members(ODDITIES[name].members).skip_empty

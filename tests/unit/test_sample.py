from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from tests.conftest import require

from pkgserver_trio.demo.sample import GENERAL_UUID, Sample, build_sample

if TYPE_CHECKING:
    from pathlib import Path

STANDARD_LIBRARY = {"44cfe95a-1eb2-52ea-b672-e2afdf69b78f"}


@pytest.fixture(scope="module")
def sample() -> Sample:
    return build_sample(generation=2)


def open_tarball(body: bytes) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(body), mode="r:gz")


def read_toml(sample: Sample, path: str, member: str) -> dict[str, Any]:
    with open_tarball(sample.files[path]) as tar:
        file = tar.extractfile(member)
        assert file is not None
        return tomllib.loads(file.read().decode())


def git_tree_hash(folder: Path) -> str:
    for command in (["init", "-q"], ["add", "-A", "-f"]):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)
    written = subprocess.run(["git", "write-tree"], cwd=folder, check=True, capture_output=True, text=True)
    return written.stdout.strip()


def test_every_tarball_is_named_by_the_hash_that_git_gives_its_tree(sample: Sample, tmp_path: Path) -> None:
    require("git", available=shutil.which("git") is not None, how_to_get="install git, the reference for tree hashes")
    resources = [path for path in sample.files if not path.startswith("/registries")]
    for number, path in enumerate(resources):
        folder = tmp_path / str(number)
        with open_tarball(sample.files[path]) as tar:
            tar.extractall(folder, filter="data")
        assert git_tree_hash(folder) == path.rpartition("/")[2], path
    assert len(resources) == 8  # five packages (Words twice), two registry states, one artifact


def test_two_builds_give_the_same_bytes(sample: Sample) -> None:
    assert build_sample(generation=2) == sample


def test_tarballs_hold_no_owner_and_no_time(sample: Sample) -> None:
    for path, body in sample.files.items():
        if path.startswith("/registries"):
            continue
        assert body[4:8] == bytes(4)  # gzip's own time
        with open_tarball(body) as tar:
            members = tar.getmembers()
        assert [member.name for member in members] == sorted(member.name for member in members)
        assert {(member.uid, member.gid, member.uname, member.mtime) for member in members} == {(0, 0, "", 0)}


def test_every_flavor_announces_the_head(sample: Sample) -> None:
    for flavor in ("", ".eager", ".conservative"):
        assert sample.files[f"/registries{flavor}"].decode() == f"{sample.registry.path}\n"
    assert sample.registry.path in sample.files


def test_the_registry_has_what_julia_1_5_insists_on(sample: Sample) -> None:
    registry = read_toml(sample, sample.registry.path, "Registry.toml")
    assert registry["name"] == "General"
    assert registry["uuid"] == GENERAL_UUID == sample.registry.uuid
    assert registry["repo"].startswith("https://registries.invalid/")
    assert {entry["name"] for entry in registry["packages"].values()} == {"Hello", "Greeting", "Words", "Picture"}


def test_every_registered_version_is_offered_and_carries_its_own_name(sample: Sample) -> None:
    head = sample.registry.path
    offered = {(package.name, package.version): package for package in sample.packages}
    for uuid, entry in read_toml(sample, head, "Registry.toml")["packages"].items():
        assert read_toml(sample, head, f"{entry['path']}/Package.toml")["uuid"] == uuid
        for version, fields in read_toml(sample, head, f"{entry['path']}/Versions.toml").items():
            package = offered.pop((entry["name"], version))
            assert package.path == f"/package/{uuid}/{fields['git-tree-sha1']}"
            project = read_toml(sample, package.path, "Project.toml")
            assert (project["name"], project["uuid"], project["version"]) == (entry["name"], uuid, version)
    assert offered == {}


def test_dependencies_in_the_registry_are_those_of_the_packages_and_can_be_had(sample: Sample) -> None:
    known = STANDARD_LIBRARY | {package.uuid for package in sample.packages}
    for package in sample.packages:
        wanted = read_toml(sample, package.path, "Project.toml").get("deps", {})
        assert set(wanted.values()) <= known
        if wanted:
            registered = read_toml(sample, sample.registry.path, f"{package.name[0]}/{package.name}/Deps.toml")
            assert registered == {"1.0-1": wanted}


def test_the_artifact_can_only_come_from_a_package_server(sample: Sample) -> None:
    picture = next(package for package in sample.packages if package.name == "Picture")
    entry = read_toml(sample, picture.path, "Artifacts.toml")["picture"]
    assert entry["git-tree-sha1"] == sample.artifact.tree_hash
    (download,) = entry["download"]
    assert download["url"].split("/")[2].endswith(".invalid")
    assert (
        download["sha256"] == sample.artifact.sha256 == hashlib.sha256(sample.files[sample.artifact.path]).hexdigest()
    )
    assert len(sample.files[sample.artifact.path]) > 256 * 1024  # many pieces, whoever reads it


def test_a_second_generation_moves_the_head_and_keeps_what_was_there(sample: Sample) -> None:
    first = build_sample()
    assert first.registry != sample.registry
    assert set(first.packages) < set(sample.packages)
    assert [package.version for package in sample.packages if package.name == "Words"] == ["1.0.0", "1.1.0"]
    for path, body in first.files.items():
        assert path.startswith("/registries") or sample.files[path] == body

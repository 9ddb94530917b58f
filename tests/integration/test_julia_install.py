"""A real Julia client with an empty depot, and no other way to anything, installs through the zipapp."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.integration.julia_client import JuliaClient, require_chroot
from tests.integration.storage import storage_server
from tests.integration.zipapp import running_zipapp

from pkgserver_trio.demo.sample import GENERAL_UUID, Sample, build_sample

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

INSTALL = 'using Pkg; Pkg.add("Hello"); Pkg.add("Picture"); using Hello; print("installed")'


def git_tree(folder: Path, scratch: Path) -> str:
    """Return the tree hash that git itself gives to the content of `folder`."""

    def git(*arguments: str) -> str:
        command = ["git", f"--git-dir={scratch}", f"--work-tree={folder}", "-c", "core.fileMode=true", *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=folder).stdout.strip()

    subprocess.run(["git", "init", "--quiet", "--bare", scratch], check=True)
    git("add", "--all", "--force", ".", ":!.tree_info.toml")  # the client's own note beside a registry's files
    return git("write-tree")


def installed_trees(depot: Path, scratch: Path) -> dict[str, str]:
    """Return the git tree hash of everything installed in the depot, by name."""
    folders = {f"package {folder.parent.name}": folder for folder in depot.glob("packages/*/*")}
    folders |= {f"artifact {folder.name}": folder for folder in depot.glob("artifacts/*")}
    folders["registry"] = depot / "registries" / "General"
    return {name: git_tree(folder, scratch / str(number)) for number, (name, folder) in enumerate(folders.items())}


def expected_trees(sample: Sample) -> dict[str, str]:
    trees = {f"package {package.name}": package.tree_hash for package in sample.packages}
    artifact = sample.artifact.tree_hash
    return trees | {f"artifact {artifact}": artifact, "registry": sample.registry.tree_hash}


def test_fresh_client_installs_packages_and_an_artifact_and_again_with_the_storage_server_gone(tmp_path: Path) -> None:
    chroot = require_chroot()
    sample = build_sample()
    (tmp_path / "server").mkdir()
    with storage_server(sample) as (upstream, requests):
        settings = {"JULIA_PKG_SERVER_STORAGE_SERVERS": upstream}
        with running_zipapp(tmp_path / "server", settings) as server:
            first = JuliaClient(chroot, tmp_path / "first", server.url)
            first.depot.mkdir()
            outcome = first.run(INSTALL)
    assert outcome.stdout.endswith("installed"), outcome
    assert installed_trees(first.depot, tmp_path / "git-first") == expected_trees(sample)
    resources = [line for line in requests if line.startswith("GET") and "registries" not in line]
    assert sorted(resources) == sorted(set(resources)), "each resource was fetched once"

    with running_zipapp(tmp_path / "server", settings) as server:  # restarted, and nothing upstream any more
        second = JuliaClient(chroot, tmp_path / "second", server.url)
        second.depot.mkdir()
        outcome = second.run(INSTALL)
    assert outcome.stdout.endswith("installed"), outcome
    assert installed_trees(second.depot, tmp_path / "git-second") == expected_trees(sample)
    for client in (first, second):
        assert not list(client.depot.glob("clones/*")), "a git clone happened"
        assert not list(client.depot.glob("registries/*/.git")), "the registry was cloned"
        assert GENERAL_UUID in (client.depot / "registries" / "General" / "Registry.toml").read_text()

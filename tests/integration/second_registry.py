"""A second, private registry beside the sample's General: one package, of which releases come out."""

from __future__ import annotations

from tests.unit.tarballs import END, directory, file, gzipped, hashes_of

LOCAL_UUID = "00000000-0000-4000-8000-00000000beef"
_EXTRA_UUID = "00000000-0000-4000-8000-0000000e47a0"


def second_registry(releases: int) -> tuple[str, dict[str, bytes]]:
    """Return the registry's URL path when Extra has so many releases, 1.0.0 on, and everything to serve by URL path."""
    files: dict[str, bytes] = {}
    versions = ""
    for release in range(releases):
        tree = {
            "Project.toml": f'name = "Extra"\nuuid = "{_EXTRA_UUID}"\nversion = "1.{release}.0"\n',
            "src/Extra.jl": f"module Extra\n\nrelease() = {release}\n\nend\n",
        }
        tree_hash = _add(files, f"/package/{_EXTRA_UUID}", tree)
        versions += f'["1.{release}.0"]\ngit-tree-sha1 = "{tree_hash}"\n\n'
    registry = {
        "Registry.toml": f'name = "Local"\nuuid = "{LOCAL_UUID}"\nrepo = "https://registries.invalid/Local.git"\n\n'
        f'[packages]\n{_EXTRA_UUID} = {{ name = "Extra", path = "E/Extra" }}\n',
        "E/Extra/Package.toml": f'name = "Extra"\nuuid = "{_EXTRA_UUID}"\nrepo = "https://packages.invalid/Extra.git"\n',
        "E/Extra/Versions.toml": versions,
    }
    tree_hash = _add(files, f"/registry/{LOCAL_UUID}", registry)
    return f"/registry/{LOCAL_UUID}/{tree_hash}", files


def _add(files: dict[str, bytes], prefix: str, tree: dict[str, str]) -> str:
    """Add the tarball of a tree, which is named by `prefix` and its hash; return the hash."""
    folders = sorted(
        {path.rpartition("/")[0] for path in tree} - {""} | {path.partition("/")[0] for path in tree if "/" in path}
    )
    members = [directory(f"{folder}/".encode()) for folder in folders]
    members += [file(path.encode(), text.encode()) for path, text in tree.items()]
    body = gzipped(b"".join(members) + END)
    tree_hash = hashes_of(body).skip_empty
    files[f"{prefix}/{tree_hash}"] = body
    return tree_hash

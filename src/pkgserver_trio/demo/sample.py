"""A small registry, its packages and one artifact, made from nothing, that any Julia client from 1.5 on installs.

1. Every repository and download address ends in ``.invalid``: what a client gets, it got from the package server.
2. Built from constants alone, with no clock, disk or chance: two builds give the same bytes (with one zlib).
3. Tree hashes are computed here from the files, not by the server's own hasher, which the sample is there to test.

Formats: the registries and artifacts chapters of Pkg.jl's manual; the keys that clients insist on are those of General.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from uuid import NAMESPACE_DNS, uuid5

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GENERAL_UUID: Final = "23338594-aafe-5451-b93e-139f81909106"
_PKG_UUID: Final = "44cfe95a-1eb2-52ea-b672-e2afdf69b78f"  # in Julia's standard library: depended on, never registered
_PICTURE_SIDE: Final = 512  # pixels, one byte each: large enough to arrive in many pieces


@dataclass(frozen=True, slots=True)
class SampleRegistry:
    """One state of the registry; ``tree_hash`` is 40 hex digits."""

    uuid: str
    tree_hash: str

    @property
    def path(self) -> str:
        """The URL path of its tarball."""
        return f"/registry/{self.uuid}/{self.tree_hash}"


@dataclass(frozen=True, slots=True)
class SamplePackage:
    """One version of one package; ``tree_hash`` is 40 hex digits."""

    name: str
    uuid: str
    version: str
    tree_hash: str

    @property
    def path(self) -> str:
        """The URL path of its tarball."""
        return f"/package/{self.uuid}/{self.tree_hash}"


@dataclass(frozen=True, slots=True)
class SampleArtifact:
    """One artifact; ``tree_hash`` is 40 hex digits, ``sha256`` (64) is of the tarball."""

    name: str
    tree_hash: str
    sha256: str

    @property
    def path(self) -> str:
        """The URL path of its tarball."""
        return f"/artifact/{self.tree_hash}"


@dataclass(frozen=True, slots=True)
class Sample:
    """What a storage server offers: ``files`` maps URL paths to bodies, the rest names what is in them.

    ``registry`` is the head that the ``/registries`` lists announce; the states before it are in ``files`` too.
    """

    files: Mapping[str, bytes]
    registry: SampleRegistry
    packages: tuple[SamplePackage, ...]
    artifact: SampleArtifact


@dataclass(frozen=True, slots=True)
class _Source:
    """A package as its author wrote it: ``needs`` are names, ``code`` is the inside of its module."""

    name: str
    needs: tuple[str, ...]
    code: str


_WORDS: Final = _Source("Words", (), 'greeting() = "Hello"\nsubject() = "world"\n')
_SOURCES: Final = (
    _Source("Greeting", ("Words",), 'import Words\n\ngreet() = string(Words.greeting(), ", ", Words.subject(), "!")\n'),
    _Source("Hello", ("Greeting",), "import Greeting\n\nhello() = println(Greeting.greet())\n"),
    # `Pkg.Artifacts` rather than `Artifacts`: the latter is only there from Julia 1.6 on.
    _Source(
        "Picture",
        ("Pkg", "Words"),
        "import Words\nusing Pkg.Artifacts\n\n"
        'path() = joinpath(artifact"picture", "image", "picture.pgm")\n'
        "title() = Words.subject()\n",
    ),
)


def build_sample(generation: int = 1) -> Sample:
    """Return the sample after the ``generation``-th release of Words, counted from 1; each moved the registry head.

    Every earlier generation's resources are still there, as on a real storage server.
    """
    artifact, artifact_tarball = _build_artifact()
    files = {artifact.path: artifact_tarball}
    artifacts_toml = {"Artifacts.toml": _artifacts_toml(artifact)}
    others = [
        _add_package(files, source, "1.0.0", artifacts_toml if source.name == "Picture" else {}) for source in _SOURCES
    ]
    words = [_add_package(files, _WORDS, f"1.{release}.0") for release in range(generation)]
    heads = [_add_registry(files, [*others, *words[:count]]) for count in range(1, generation + 1)]
    registry = heads[-1]
    for flavor in ("", ".eager", ".conservative"):
        files[f"/registries{flavor}"] = f"{registry.path}\n".encode()
    return Sample(MappingProxyType(files), registry, (*others, *words), artifact)


def _build_artifact() -> tuple[SampleArtifact, bytes]:
    """Return a grey noise picture, which no compression shrinks, and its tarball."""
    pixels = hashlib.shake_256(b"picture").digest(_PICTURE_SIDE**2)
    tree = {
        "README": b"A picture of nothing in particular.\n",
        "image/picture.pgm": b"P5 %d %d 255\n" % (_PICTURE_SIDE, _PICTURE_SIDE) + pixels,
    }
    tarball = _tarball(tree)
    return SampleArtifact("picture", _tree_id(tree).hex(), hashlib.sha256(tarball).hexdigest()), tarball


def _add_package(
    files: dict[str, bytes], source: _Source, version: str, extra: Mapping[str, bytes] = MappingProxyType({})
) -> SamplePackage:
    tree = {
        "Project.toml": _project_toml(source, version),
        f"src/{source.name}.jl": f"module {source.name}\n\n{source.code}\nend\n".encode(),
        **extra,
    }
    package = SamplePackage(source.name, _uuid_of(source.name), version, _tree_id(tree).hex())
    files[package.path] = _tarball(tree)
    return package


def _add_registry(files: dict[str, bytes], packages: Sequence[SamplePackage]) -> SampleRegistry:
    tree = _registry_tree(packages)
    registry = SampleRegistry(GENERAL_UUID, _tree_id(tree).hex())
    files[registry.path] = _tarball(tree)
    return registry


def _uuid_of(name: str) -> str:
    return _PKG_UUID if name == "Pkg" else str(uuid5(NAMESPACE_DNS, f"{name}.invalid"))


def _project_toml(source: _Source, version: str) -> bytes:
    lines = [f'name = "{source.name}"', f'uuid = "{_uuid_of(source.name)}"', f'version = "{version}"', ""]
    if source.needs:
        lines += ["[deps]", *_dependency_lines(source), ""]
    return "\n".join([*lines, "[compat]", *_compat_lines(source), 'julia = "1.5"', ""]).encode()


def _dependency_lines(source: _Source) -> list[str]:
    return [f'{name} = "{_uuid_of(name)}"' for name in source.needs]


def _compat_lines(source: _Source) -> list[str]:
    # Not for Pkg: its version is Julia's own, which the `julia` line bounds already.
    return [f'{name} = "1"' for name in source.needs if name != "Pkg"]


def _artifacts_toml(artifact: SampleArtifact) -> bytes:
    return (
        f'[{artifact.name}]\ngit-tree-sha1 = "{artifact.tree_hash}"\n\n'
        f'    [[{artifact.name}.download]]\n    sha256 = "{artifact.sha256}"\n'
        f'    url = "https://artifacts.invalid/{artifact.name}.tar.gz"\n'
    ).encode()


def _registry_tree(packages: Sequence[SamplePackage]) -> dict[str, bytes]:
    """Return the registry's files: one folder a package, with every version of it, as General lays them out."""
    listed, tree = [], {}
    for source in sorted((_WORDS, *_SOURCES), key=lambda source: _uuid_of(source.name)):
        name, uuid, folder = source.name, _uuid_of(source.name), f"{source.name[0]}/{source.name}"
        listed.append(f'{uuid} = {{ name = "{name}", path = "{folder}" }}')
        repository = f"https://packages.invalid/{name}.jl.git"
        tree[f"{folder}/Package.toml"] = f'name = "{name}"\nuuid = "{uuid}"\nrepo = "{repository}"\n'
        tree[f"{folder}/Versions.toml"] = "\n".join(
            f'["{package.version}"]\ngit-tree-sha1 = "{package.tree_hash}"\n'
            for package in packages
            if package.name == name
        )
        # A dotted range, so that no TOML reader takes the key for a number; it spans every version there will be.
        if source.needs:
            tree[f"{folder}/Deps.toml"] = "\n".join(['["1.0-1"]', *_dependency_lines(source), ""])
        tree[f"{folder}/Compat.toml"] = "\n".join(['["1.0-1"]', *_compat_lines(source), 'julia = "1.5.0-1"', ""])
    tree["Registry.toml"] = "\n".join([*_registry_head(), "[packages]", *listed, ""])
    return {path: text.encode() for path, text in tree.items()}


def _registry_head() -> list[str]:
    # Julia 1.5 refuses a registry without `repo`.
    return [
        'name = "General"',
        f'uuid = "{GENERAL_UUID}"',
        'repo = "https://registries.invalid/General.git"',
        'description = "A sample: a few packages that greet, and a picture."',
        "",
    ]


def _tree_id(files: Mapping[str, bytes]) -> bytes:
    """Return the git tree id of plain files (20 bytes); ``files`` maps relative paths to contents."""
    folders: dict[str, dict[str, bytes]] = {}
    entries = []
    for path, body in files.items():
        name, _, rest = path.partition("/")
        if rest:
            folders.setdefault(name, {})[rest] = body
        else:
            entries.append((name, b"100644 %s\0" % name.encode() + _git_id("blob", body)))
    for name, inside in folders.items():
        # git sorts a directory as if its name ended in a slash
        entries.append((f"{name}/", b"40000 %s\0" % name.encode() + _tree_id(inside)))
    return _git_id("tree", b"".join(entry for _, entry in sorted(entries)))


def _git_id(kind: str, body: bytes) -> bytes:
    return hashlib.sha1(f"{kind} {len(body)}\0".encode() + body, usedforsecurity=False).digest()


def _tarball(files: Mapping[str, bytes]) -> bytes:
    """Return a ``.tar.gz`` of plain files and their folders: sorted, owned by nobody, without times."""
    folders = {str(folder) for path in files for folder in PurePosixPath(path).parents} - {"."}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted({*files, *folders}):
            member = tarfile.TarInfo(path)  # uid, gid and mtime are 0, the mode is 0o644
            if path in folders:
                member.type, member.mode = tarfile.DIRTYPE, 0o755
            member.size = len(files.get(path, b""))
            tar.addfile(member, io.BytesIO(files.get(path, b"")))
    return gzip.compress(buffer.getvalue(), mtime=0)

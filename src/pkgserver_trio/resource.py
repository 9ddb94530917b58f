"""A resource: one registry, package or artifact tarball, named by its git tree hash; or what is as immutable.

1. A path from outside becomes a ``Resource`` only through ``parse``, which matches the whole raw path; so ``name`` can
   be joined to a directory without further checks.
2. ``pack`` is how a resource is named where a million of them are held: in the index, in memory. It is never stored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, StrEnum
from itertools import product

_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_HASH = "[0-9a-f]{40}"
_MIRRORED = re.compile(rf"mirror/({_HASH})")
_RESOURCE = re.compile(rf"/(?:(registry|package)/({_UUID})|artifact)/({_HASH})")
_ARTIFACT_TOML = re.compile(rf"/artifact/({_HASH})/([A-Za-z0-9_.+-]{{1,128}})")
_HASH_DIGITS = 40
_HASH_BITS = 160
_UUID_BITS = 128


class Kind(StrEnum):
    """What a resource holds; the value is the first segment of its path."""

    REGISTRY = "registry"
    PACKAGE = "package"
    ARTIFACT = "artifact"
    MIRROR = "mirror"
    """One version of an object of a bucket: not named by a tree, and never by a path from outside."""


#: What storage servers have, as tarballs.
TARBALLS = (Kind.REGISTRY, Kind.PACKAGE, Kind.ARTIFACT)
_WITHOUT_UUID = frozenset({Kind.ARTIFACT, Kind.MIRROR})


class Form(Enum):
    """How a tarball is encoded where it is stored; the value is the suffix of its file name."""

    GZIP = ""


# The place in this tuple, counted from 1, is the first digit of a packed key: no more than 15 fit.
_VARIANTS = tuple(product(Form, Kind))


@dataclass(frozen=True, slots=True)
class Resource:
    """The name of one tarball, or of one version of an object (``tree_hash`` then is a hash of what tells it apart).

    ``tree_hash`` is 40 and ``uuid`` 8-4-4-4-12 lower-case hexadecimal digits. Raises ``ValueError`` when a registry or
    a package has no uuid, or another one has one.
    """

    kind: Kind
    tree_hash: str
    uuid: str | None = None
    form: Form = Form.GZIP

    def __post_init__(self) -> None:
        if (self.uuid is None) != (self.kind in _WITHOUT_UUID):
            raise ValueError("a registry or a package has a uuid, an artifact has none")

    @classmethod
    def parse_name(cls, name: str) -> Resource | None:
        """Return the resource whose file below ``cache/`` is called ``name``, or None when there is none such."""
        match = _MIRRORED.fullmatch(name)
        return cls.parse(f"/{name}") if match is None else cls(Kind.MIRROR, match[1])

    @classmethod
    def parse(cls, path: str) -> Resource | None:
        """Return the resource that ``path`` names, or None when it is not exactly one.

        ``path`` is the raw path of a request, neither decoded nor normalised, without its query: whatever a decoder
        would have to interpret does not match.
        """
        match = _RESOURCE.fullmatch(path)
        if match is None:
            return None
        kind, uuid, tree_hash = match.groups()
        return cls(Kind(kind or Kind.ARTIFACT), tree_hash, uuid)

    @property
    def path(self) -> str:
        """The path of its URL, on this server and on every storage server."""
        if self.uuid is None:
            return f"/{self.kind}/{self.tree_hash}"
        return f"/{self.kind}/{self.uuid}/{self.tree_hash}"

    @property
    def name(self) -> str:
        """The file name below ``cache/``, which is also the key in logs and statistics."""
        return self.path[1:] + self.form.value

    def pack(self) -> int:
        """Return the compact key of the index: a tag, the 16 bytes of the uuid if any, the 20 of the hash.

        As one number, since Python keeps that in 16 bytes less than the same bytes.
        """
        tag = 1 + _VARIANTS.index((self.form, self.kind))
        return int(f"{tag:x}{(self.uuid or '').replace('-', '')}{self.tree_hash}", 16)

    @classmethod
    def unpack(cls, key: int) -> Resource:
        """Return the resource whose ``pack`` gave ``key``; nothing else may be passed."""
        digits = f"{key:x}"
        form, kind = _VARIANTS[int(digits[0], 16) - 1]
        uuid, tree_hash = digits[1:-_HASH_DIGITS], digits[-_HASH_DIGITS:]
        if uuid:
            uuid = "-".join((uuid[:8], uuid[8:12], uuid[12:16], uuid[16:20], uuid[20:]))
        return cls(kind, tree_hash, uuid or None, form)


def tag_of(key: int) -> int:
    """Return the tag of the resource whose ``pack`` gave ``key``: its first digit, without unpacking it."""
    return key >> _UUID_BITS + _HASH_BITS or key >> _HASH_BITS


def tags_of(kind: Kind) -> list[int]:
    """Return the tags that resources of a kind can have, from 1 to 15."""
    return [tag for tag, (_, tagged) in enumerate(_VARIANTS, 1) if tagged is kind]


def parse_artifact_toml_path(path: str) -> tuple[Resource, str] | None:
    """Return the artifact and the name in ``/artifact/{hash}/{name}``, or None when ``path`` is not exactly that.

    ``path`` is the raw path, as for ``Resource.parse``; the name is 1 to 128 of ``A-Z a-z 0-9 _ . + -``.
    """
    match = _ARTIFACT_TOML.fullmatch(path)
    return None if match is None else (Resource(Kind.ARTIFACT, match[1]), match[2])

"""What exists in the world of a soak: every resource with all its honest tarballs, and registries that move on.

1. Each storage server packs a tree in its own way: two of the three tarballs are of one size, but differ in bits that
   git does not look at and so in their check sum; the third is of another size. A mix of two of them is none of them.
2. Tree hashes are computed here, from git's own rules, and not by the code under test.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Final

from tests.behaviours import Behaviour, good
from tests.unit.tarballs import END, file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STORAGE_SERVERS: Final = 3
FLAVORS: Final = ("conservative", "eager")
REGISTRIES: Final = ("23338594-aafe-5451-b93e-139f81909106", "4418983a-e44d-11e8-3aec-9789530b3b3e")
MAX_CACHE_BYTES: Final = 4 << 20
MAX_UNPACKED_BYTES: Final = 16 << 20
# How many trees, and between which sizes their content: in all far more than the cache may hold; one alone is, too.
_SIZES: Final = ((70, 100, 20_000), (35, 40_000, 250_000), (8, 800_000, 1_200_000), (1, 5_000_000, 5_000_001))


@dataclass(frozen=True)
class Tarball:
    """One resource; ``bodies`` holds what each storage server has of it, all of them right."""

    path: str
    bodies: tuple[bytes, ...]

    @property
    def smallest(self) -> int:
        """The size of the smallest body, in bytes."""
        return min(map(len, self.bodies))

    @cached_property
    def answers(self) -> tuple[Behaviour, ...]:
        """The good answer of each storage server."""
        return tuple(map(good, self.bodies))

    @cached_property
    def sha256s(self) -> frozenset[str]:
        return frozenset(hashlib.sha256(body).hexdigest() for body in self.bodies)


@dataclass(frozen=True)
class Catalogue:
    """``tarballs`` do not change; ``heads`` are the states of each registry by its uuid, oldest first."""

    tarballs: Sequence[Tarball]
    heads: Mapping[str, Sequence[Tarball]]
    bomb: bytes

    @cached_property
    def by_path(self) -> Mapping[str, Tarball]:
        heads = (head for heads in self.heads.values() for head in heads)
        return {tarball.path: tarball for tarball in (*self.tarballs, *heads)}

    @cached_property
    def ages(self) -> Mapping[str, int]:
        """The place of each registry head, by its path, among those of its registry."""
        return {head.path: age for heads in self.heads.values() for age, head in enumerate(heads)}

    def listing(self, age: int) -> bytes:
        """Return the registry list of a storage server that has the heads up to ``age``."""
        return "".join(f"{self.heads[uuid][age].path}\n" for uuid in sorted(self.heads)).encode()


def build_catalogue(seed: str, states: int) -> Catalogue:
    """Return the catalogue of a seed, with so many states of each registry."""
    random = Random(f"{seed}/catalogue")
    sizes = [random.randrange(low, high) for count, low, high in _SIZES for _ in range(count)]
    random.shuffle(sizes)
    prefixes = ("/artifact", *(f"/package/{_uuid(random)}" for _ in range(8)))
    return Catalogue(
        [_tarball(random, random.choice(prefixes), size) for size in sizes],
        {uuid: [_tarball(random, f"/registry/{uuid}", 400) for _ in range(states)] for uuid in REGISTRIES},
        gzip.compress(file(b"zeros", bytes(2 * MAX_UNPACKED_BYTES)) + END, compresslevel=1, mtime=0),
    )


def _uuid(random: Random) -> str:
    digits = random.randbytes(16).hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _tarball(random: Random, prefix: str, size: int) -> Tarball:
    files = {b"a": random.randbytes(size // 3), b"b": random.randbytes(size - size // 3)}
    packed = tuple(_pack(files, mode, level) for mode, level in ((0o644, 0), (0o640, 0), (0o644, 1)))
    return Tarball(f"{prefix}/{tree_hash(files)}", packed)


def _pack(files: Mapping[bytes, bytes], mode: int, level: int) -> bytes:
    archive = b"".join(file(name, content, mode=mode) for name, content in files.items()) + END
    return gzip.compress(archive, compresslevel=level, mtime=0)


def tree_hash(files: Mapping[bytes, bytes]) -> str:
    """Return git's hash of a tree of these plain files."""
    entries = (b"100644 %b\0%b" % (name, _hash(b"blob", files[name])) for name in sorted(files))
    return _hash(b"tree", b"".join(entries)).hex()


def _hash(kind: bytes, content: bytes) -> bytes:
    return hashlib.sha1(b"%b %d\0%b" % (kind, len(content), content), usedforsecurity=False).digest()

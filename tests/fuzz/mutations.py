"""Damage to bytes: the random small changes by which a right input becomes one that nobody has thought of.

The same generator in the same state makes the same change.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Final

from tests.unit.tarballs import BLOCK, gzipped, octal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

Mutation = "Callable[[Random, bytes], bytes]"

_INTERESTING: Final = b"\0\1\x7f\x80\xff /.-\n0179x"
_CHECKSUM: Final = re.compile(rb"[0-7 ]{6}[\0 ]")
# Offset and length of each field of a header block, those of GNU's sparse files too.
_FIELDS: Final = (
    (0, 100),
    (100, 8),
    (124, 12),
    (148, 8),
    (156, 1),
    (157, 100),
    (257, 8),
    (345, 155),
    (386, 12),
    (482, 13),
)
_FIELD_WORDS: Final = (
    *(bytes([kind]) for kind in b"01234567xgLKSVAD\0"),
    *(b"00000000000\0", b"00000001000\0", b"77777777777\0", b"-1\0", b"\x80" + bytes(11), b"\xff" * 12, bytes(12)),
    *(b"/", b"./", b"..", b"a/../b", b"f\0g", b"d/", b"", b"\xff\xfe", b"ustar\x0000", b"ustar  \0", bytes(8)),
)


def mutate(random: Random, seed: bytes, others: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """Return the seed after one to six changes; ``others`` are crossed with it, ``words`` are written into it."""
    changes: tuple[Callable[[Random, bytes], bytes], ...] = (
        *(_flip, _overwrite, _cut, _repeat, _move, _truncate),
        partial(_insert, words=words),
        partial(_cross, others=others),
    )
    for _ in range(random.randint(1, 6)):
        seed = random.choice(changes)(random, seed)
    return seed


def mutate_tarball(random: Random, archive: bytes, others: Sequence[bytes]) -> bytes:
    """Return a tarball made of a changed archive, mostly with right checksums, or one that was changed when packed."""
    for _ in range(random.randint(0, 4)):
        change = random.choice((_change_field, _change_field, _change_blocks))
        archive = change(random, archive, others)
    if random.random() < 0.3:
        archive = mutate(random, archive, others, _FIELD_WORDS)
    if random.random() < 0.9:
        archive = _with_right_checksums(archive)
    packed = gzipped(archive)
    return mutate(random, packed, [gzipped(b"")], [b"\x1f\x8b\x08"]) if random.random() < 0.1 else packed


def _change_field(random: Random, archive: bytes, others: Sequence[bytes]) -> bytes:
    start = BLOCK * random.randint(0, len(archive) // BLOCK)
    offset, length = random.choice(_FIELDS)
    word = random.choice(_FIELD_WORDS)[:length].ljust(random.choice((0, length)), b"\0")
    return archive[: start + offset] + word + archive[start + offset + len(word) :]


def _change_blocks(random: Random, archive: bytes, others: Sequence[bytes]) -> bytes:
    """Remove, repeat or move blocks, or cross with another archive, always at whole blocks."""
    other = random.choice((archive, random.choice(others)))
    first, second = (_span(random, len(whole) // BLOCK) for whole in (archive, other))
    return archive[: first[0] * BLOCK] + other[second[0] * BLOCK : second[1] * BLOCK] + archive[first[1] * BLOCK :]


def _with_right_checksums(archive: bytes) -> bytes:
    blocks = [archive[start : start + BLOCK] for start in range(0, len(archive), BLOCK)]
    return b"".join(_with_right_checksum(block) if len(block) == BLOCK else block for block in blocks)


def _with_right_checksum(block: bytes) -> bytes:
    if not _CHECKSUM.match(block, 148):
        return block
    total = sum(block[:148]) + 8 * ord(" ") + sum(block[156:])
    return block[:148] + octal(total, 7) + b" " + block[156:]


def _span(random: Random, length: int) -> tuple[int, int]:
    """A place, and another at most a few steps behind it."""
    start = random.randint(0, length)
    return start, min(length, start + random.choice((0, 1, 1, 2, 4, 16)))


def _flip(random: Random, seed: bytes) -> bytes:
    place = random.randrange(len(seed) + 1)
    return seed[:place] + bytes(byte ^ 1 << random.randrange(8) for byte in seed[place : place + 1]) + seed[place + 1 :]


def _overwrite(random: Random, seed: bytes) -> bytes:
    place = random.randrange(len(seed) + 1)
    return seed[:place] + bytes([random.choice(_INTERESTING)]) + seed[place + 1 :]


def _cut(random: Random, seed: bytes) -> bytes:
    start, stop = _span(random, len(seed))
    return seed[:start] + seed[stop:]


def _repeat(random: Random, seed: bytes) -> bytes:
    start, stop = _span(random, len(seed))
    return seed[:start] + seed[start:stop] * random.choice((2, 3, 30)) + seed[stop:]


def _move(random: Random, seed: bytes) -> bytes:
    start, stop = _span(random, len(seed))
    place = random.randint(0, start)
    return seed[:place] + seed[start:stop] + seed[place:start] + seed[stop:]


def _truncate(random: Random, seed: bytes) -> bytes:
    return seed[: random.randint(0, len(seed))]


def _insert(random: Random, seed: bytes, *, words: Sequence[bytes]) -> bytes:
    start, stop = _span(random, len(seed))
    return seed[:start] + random.choice(words) + seed[random.choice((start, stop)) :]


def _cross(random: Random, seed: bytes, *, others: Sequence[bytes]) -> bytes:
    other = random.choice(others)
    return seed[: random.randint(0, len(seed))] + other[random.randint(0, len(other)) :]

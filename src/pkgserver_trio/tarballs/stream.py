"""A tar archive, parsed as it arrives (POSIX ustar and pax, GNU, V7), without I/O and without keeping content.

An archive is a row of 512-byte blocks: a header, its content, the next header, and at the end zeros. So the parser is
always in one of four states. Each takes what it can of a piece and returns the rest: the cut into pieces is no matter.

    header  --size > 0-->  content  --odd size-->  padding  -->  header
    header  --size = 0-->  header
    header  --all zero-->  ending   (and no way out)

Rule 1: Content is never copied. It goes to its reader in slices as long as the pieces allow.
Rule 2: An extension (pax ``x`` and ``g``, GNU ``L`` and ``K``) is a member whose content we keep: it renames the next
        member, or (``g``) every later one. The later word wins, and a member's own wins over a global one.
Rule 3: What readers of tar do not agree on is refused, not guessed: a symbolic link with content, a file whose name
        ends in a slash, devices (docs/decisions/006-what-a-tarball-may-be.md).
Rule 4: An archive ends behind a whole member: with blocks of zeros, and then nothing but zeros, or with nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from pkgserver_trio.tarballs.header import BLOCK, MAX_EXTENSION_BYTES, Header, parse_header, parse_pax, shown
from pkgserver_trio.tarballs.inflate import TarballError, require_zeros
from pkgserver_trio.tarballs.sparse import Filler, SparseMap, old_map_goes_on, parse_old_map, parse_pax_map

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ZERO_BLOCK: Final = bytes(BLOCK)
_DEVICES: Final = {b"3": "a device", b"4": "a device", b"6": "a FIFO"}
_MAX_SPARSE_BYTES: Final = 1 << 30  # of one archive; holes are not sent, so no one else bounds what they cost


@dataclass(frozen=True, slots=True)
class TarLimits:
    """What one tarball may cost: bytes after decompression; files, links and folders (implied ones too)."""

    max_unpacked_bytes: int
    max_members: int


class TarSink(Protocol):
    """What takes the members of an archive, in its order and by the names it has there. All may raise TarballError."""

    def begin_file(self, path: bytes, size_bytes: int, *, executable: bool) -> Callable[[memoryview], object]:
        """Begin a file; return what takes its content, in slices that are valid during the call only."""

    def end_file(self) -> None:
        """End the file that was begun last: its content is complete."""

    def directory(self, path: bytes) -> None:
        """Take a directory, maybe once more."""

    def symlink(self, path: bytes, target: bytes) -> None:
        """Take a symbolic link; its target is any text."""

    def hardlink(self, path: bytes, target: bytes) -> None:
        """Take another name of the earlier member ``target``."""


class TarStream:
    """The parser: feed it an archive, it calls the sink. After a TarballError it is of no more use."""

    def __init__(self, limits: TarLimits, sink: TarSink) -> None:
        self._sink = sink
        self._max_unpacked_bytes = limits.max_unpacked_bytes
        self._unpacked_bytes = 0
        self._state: Callable[[memoryview], memoryview] = self._take_header
        self._header = b""  # as much of it as has arrived
        self._content_bytes = self._padding_bytes = 0  # still to come
        self._write: Callable[[memoryview], object]
        self._end_content: Callable[[], None]
        self._globals: dict[bytes, bytes] = {}
        self._overrides: dict[bytes, bytes] = {}
        self._sparse_bytes = 0  # of all sparse files, holes included

    def feed(self, piece: bytes | memoryview) -> None:
        """Parse the next bytes; raise TarballError as soon as they cannot be right."""
        self._unpacked_bytes += len(piece)
        if self._unpacked_bytes > self._max_unpacked_bytes:
            raise TarballError(f"the tarball unpacks to more than {self._max_unpacked_bytes} bytes")
        rest = memoryview(piece)
        while rest:
            rest = self._state(rest)

    def finish(self) -> None:
        """Raise TarballError unless the archive ends here."""
        if self._header or self._overrides or self._state not in (self._take_header, self._take_ending):
            raise TarballError("the archive is truncated")

    def _take_header(self, rest: memoryview) -> memoryview:
        missing_bytes = BLOCK - len(self._header)
        self._header += rest[:missing_bytes]
        if len(self._header) == BLOCK:
            block, self._header = self._header, b""
            self._begin(block)
        return rest[missing_bytes:]

    def _take_content(self, rest: memoryview) -> memoryview:
        content = rest[: self._content_bytes]
        self._write(content)
        self._content_bytes -= len(content)
        if not self._content_bytes:
            self._state = self._take_padding if self._padding_bytes else self._take_header
            self._end_content()
        return rest[len(content) :]

    def _take_padding(self, rest: memoryview) -> memoryview:
        skipped_bytes = min(len(rest), self._padding_bytes)
        self._padding_bytes -= skipped_bytes
        if not self._padding_bytes:
            self._state = self._take_header
        return rest[skipped_bytes:]

    def _take_ending(self, rest: memoryview) -> memoryview:
        require_zeros(rest, after="the end of the archive")
        return rest[:0]

    def _begin(self, block: bytes) -> None:
        if block != _ZERO_BLOCK:
            header = parse_header(block)
            if header.kind in b"xgLK":
                self._begin_extension(header)
            elif header.kind == b"S":
                self._take_old_map(header, bytearray(block))
            else:
                self._begin_member(header)
        elif self._overrides:
            raise TarballError("the archive ends after an extension header: its member is missing")
        else:
            self._state = self._take_ending

    def _begin_extension(self, header: Header) -> None:
        if header.size_bytes > MAX_EXTENSION_BYTES:
            raise TarballError(f"an extension header of {header.size_bytes} bytes is too large")
        payload = bytearray()
        self._expect(header.size_bytes, payload.extend, partial(self._apply_extension, header.kind, payload))

    def _apply_extension(self, kind: bytes, payload: bytearray) -> None:
        if kind in b"xg":
            (self._overrides if kind == b"x" else self._globals).update(parse_pax(bytes(payload)))
        else:
            self._overrides[b"path" if kind == b"L" else b"linkpath"] = bytes(payload).rstrip(b"\0")

    def _take_old_map(self, header: Header, blocks: bytearray) -> None:
        if len(blocks) > MAX_EXTENSION_BYTES:
            raise TarballError(f"{shown(header.path)} is a sparse file with too large a map")
        if old_map_goes_on(blocks):
            self._expect(BLOCK, blocks.extend, partial(self._take_old_map, header, blocks))
        else:
            self._begin_member(header, bytes(blocks))

    def _begin_member(self, header: Header, old_map: bytes = b"") -> None:
        words: Mapping[bytes, bytes] = {}
        if self._globals or self._overrides:
            words = self._globals | self._overrides
            self._overrides = {}
            header = header.renamed(words)
        path, kind = header.path, header.kind
        in_folder_style = path.rpartition(b"/")[2] in (b"", b".")
        if kind == b"5" or (kind == b"\0" and in_folder_style):  # V7 has no other sign of a directory
            self._sink.directory(path)
        elif in_folder_style:
            raise TarballError(f"{shown(path)} is empty, or named like a directory but is none")
        elif kind in b"0\x007S":  # 7: "contiguous", a regular file to everyone
            self._begin_file(header, _sparse_map(header, words, old_map) if words or old_map else None)
            return
        else:
            self._begin_link(header)
        if header.size_bytes:
            raise TarballError(f"{shown(path)} has content, but is no file")

    def _begin_link(self, header: Header) -> None:
        if header.kind == b"1":
            self._sink.hardlink(header.path, header.target)
        elif header.kind == b"2":
            self._sink.symlink(header.path, header.target)
        else:
            kind = _DEVICES.get(header.kind, f"of unknown type {header.kind!r}")
            raise TarballError(f"{shown(header.path)} is {kind}")

    def _begin_file(self, header: Header, sparse: SparseMap | None) -> None:
        size_bytes = header.size_bytes if sparse is None else sparse.size_bytes
        if size_bytes > self._max_unpacked_bytes:
            raise TarballError(f"{shown(header.path)} alone is larger than {self._max_unpacked_bytes} bytes")
        if sparse is not None:
            self._charge_sparse(header, sparse)
        write = self._sink.begin_file(header.path, size_bytes, executable=header.executable)
        if sparse is None:
            self._expect(header.size_bytes, write, self._sink.end_file)
        else:
            filler = Filler(sparse, write)
            self._expect(header.size_bytes, filler, partial(self._end_sparse, filler))

    def _charge_sparse(self, header: Header, sparse: SparseMap) -> None:
        self._sparse_bytes += sparse.size_bytes
        if self._sparse_bytes > _MAX_SPARSE_BYTES:
            raise TarballError(f"{shown(header.path)} is a sparse file, and there is more of them than 1 GiB")

    def _end_sparse(self, filler: Filler) -> None:
        filler.end()
        self._sink.end_file()

    def _expect(self, size_bytes: int, write: Callable[[memoryview], object], end: Callable[[], None]) -> None:
        self._content_bytes, self._padding_bytes = size_bytes, -size_bytes % BLOCK
        self._write, self._end_content = write, end
        if size_bytes:
            self._state = self._take_content
        else:
            end()


def _sparse_map(header: Header, words: Mapping[bytes, bytes], old_map: bytes) -> SparseMap | None:
    if old_map:
        return parse_old_map(old_map, header.size_bytes)
    if any(word.startswith(b"GNU.sparse.") for word in words):
        return parse_pax_map(words, header.size_bytes)
    return None

"""What an origin says of one version of an object: what clients are told, and what tells it from others. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from pkgserver_trio.mirror.object_digest import Digest, digest_of
from pkgserver_trio.resource import Kind, Resource

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pkgserver_trio.mirror.object_path import ObjectName

_TOLD: Final = (
    "content-type",
    "content-disposition",
    "content-encoding",
    "content-language",
    "etag",
    "last-modified",
    "cache-control",
    "expires",
)
_META: Final = "x-amz-meta-"
#: A 304 may tell new ones of these; all else belongs to the bytes.
_RENEWED: Final = frozenset({"cache-control", "expires"})
#: In bytes, names and values together. S3 allows 2 KiB of metadata.
MAX_TOLD_BYTES: Final = 8 * 1024
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_VALUE = re.compile(r"[\x20-\x7e\xa0-\xff]*")


def told_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return those of an origin's headers (names in lower case) that clients are told; unfit and too many are left."""
    told: dict[str, str] = {}
    room = MAX_TOLD_BYTES
    known = [(name, value) for name, value in headers if name in _TOLD or name.startswith(_META)]
    for name, value in sorted(known, key=lambda header: header[0].startswith(_META)):  # metadata last
        room -= len(name) + len(value)
        if room >= 0 and _NAME.fullmatch(name) and _VALUE.fullmatch(value):
            told[name] = value
    return told


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """One version of an object: the headers to tell, with names in lower case, its size in bytes, its digest."""

    told: Mapping[str, str] = field(hash=False)
    size_bytes: int | None
    digest: Digest | None

    @classmethod
    def of(cls, headers: Mapping[str, str], size_bytes: int | None) -> ObjectHead:
        """Return what an origin's headers, with names in lower case, say."""
        return cls(told_headers(headers.items()), size_bytes, digest_of(headers))

    @property
    def etag(self) -> str | None:
        """The entity tag, weak or strong."""
        return self.told.get("etag")

    @property
    def strong_etag(self) -> str | None:
        """The entity tag, if it is a strong one."""
        return self.etag if self.etag is not None and self.etag.startswith('"') else None

    @property
    def last_modified(self) -> str | None:
        """When the origin says that it was changed."""
        return self.told.get("last-modified")

    @property
    def has_validator(self) -> bool:
        """Something tells this version from others."""
        return self.etag is not None or self.last_modified is not None

    def is_same_version(self, other: ObjectHead) -> bool:
        """Tell whether the other head is of the same bytes; a size counts where both tell one."""
        sizes = {self.size_bytes, other.size_bytes} - {None}
        mine, others = (self.etag, self.last_modified), (other.etag, other.last_modified)
        return len(sizes) < 2 and (mine[0] == others[0] if mine[0] or others[0] else mine == others)  # noqa: PLR2004

    def is_confirmed_by(self, headers: Mapping[str, str]) -> bool:
        """Tell whether a 304 with these headers is about this version, and not another one (RFC 9110, 15.4.5)."""
        tag, date = headers.get("etag"), headers.get("last-modified")
        if self.etag is not None:
            return tag is None or tag.removeprefix("W/") == self.etag.removeprefix("W/")
        return tag is None and date in {None, self.last_modified}

    def resource(self, name: ObjectName) -> Resource:
        """Return what this version of the object called `name` is called in the cache."""
        version = f"{self.etag or self.last_modified} {self.size_bytes}"
        text = json.dumps([name.bucket, name.key, version])
        return Resource(Kind.MIRROR, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    def renewed(self, headers: Mapping[str, str]) -> ObjectHead:
        """Return the head after a 304 with these headers."""
        fresh = {name: value for name, value in told_headers(headers.items()).items() if name in _RENEWED}
        return replace(self, told={**self.told, **fresh})

    def dump(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        digest = None if self.digest is None else [self.digest.algorithm, self.digest.value]
        return {"told": dict(self.told), "size": self.size_bytes, "digest": digest}

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> ObjectHead:
        """Return what `dump` gave. Raises ValueError, TypeError, KeyError for anything else."""
        told = {str(name): str(value) for name, value in dumped["told"].items()}
        size = None if dumped["size"] is None else int(dumped["size"])
        return cls(told, size, None if dumped["digest"] is None else Digest(*map(str, dumped["digest"])))

"""Cyclic redundancy checks, by the names that S3 has for them. Pure.

CRC32C and CRC64NVME need `anycrc`, which is compiled: where it is not installed they cannot be computed.
"""

from __future__ import annotations

import zlib
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MODELS: Final = {"crc64nvme": "CRC64-NVME", "crc32c": "CRC32C"}


class Crc:
    """What `function` makes of a piece and of what it made of all before; `width` in bytes."""

    def __init__(self, function: Callable[[bytes, int], int], width: int) -> None:
        self._function, self._width = function, width
        self._value = 0

    def update(self, piece: bytes, /) -> None:
        """Take the next bytes."""
        self._value = self._function(piece, self._value)

    def hexdigest(self) -> str:
        """Return the check of all that was taken, in lower-case hexadecimal digits."""
        return f"{self._value:0{2 * self._width}x}"


def load_functions(library: str = "anycrc") -> Mapping[str, Callable[[bytes, int], int]]:
    """Return what can be computed here, the strongest first: CRC32 by the standard library, all else by `library`."""
    functions: dict[str, Callable[[bytes, int], int]] = {}
    try:
        module: Any = import_module(library)
    except ImportError:
        pass
    else:
        functions |= {name: module.Model(model).calc for name, model in _MODELS.items()}
    return {**functions, "crc32": zlib.crc32}


_FUNCTIONS: Final = load_functions()
CRC_BYTES: Final = {name: 8 if name == "crc64nvme" else 4 for name in _FUNCTIONS}
"""The names that `crc` takes, with the size of what they give in bytes, the strongest first."""


def crc(name: str) -> Crc:
    """Return the check called so, of nothing. Raises KeyError where it cannot be computed."""
    return Crc(_FUNCTIONS[name], CRC_BYTES[name])

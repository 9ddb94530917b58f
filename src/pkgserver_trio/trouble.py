"""What an errno of the disk says, in one table for all who meet one."""

from __future__ import annotations

import errno
from enum import Enum, auto
from types import MappingProxyType
from typing import Final


class Trouble(Enum):
    """What went wrong."""

    FULL = auto()
    """A disk, a quota or a file-size limit is reached."""
    SCARCE = auto()
    """The process or the machine ran out of something else: that says nothing of the file or the disk."""
    BROKEN = auto()
    """The file cannot be used, or the disk: it is not there, forbidden, read-only or damaged."""


_TROUBLES: Final = MappingProxyType(
    {
        errno.ENOSPC: Trouble.FULL,
        errno.EDQUOT: Trouble.FULL,
        errno.EFBIG: Trouble.FULL,
        errno.EMFILE: Trouble.SCARCE,
        errno.ENFILE: Trouble.SCARCE,
        errno.ENOMEM: Trouble.SCARCE,
        errno.ENOBUFS: Trouble.SCARCE,
        errno.EAGAIN: Trouble.SCARCE,
    }
)


def trouble_of(error: OSError) -> Trouble:
    """Return what `error` says; what the table does not know is BROKEN."""
    return _TROUBLES.get(error.errno or 0, Trouble.BROKEN)

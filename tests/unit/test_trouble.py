from __future__ import annotations

import errno
import os

import pytest

from pkgserver_trio.trouble import Trouble, trouble_of


@pytest.mark.parametrize(
    ("code", "trouble"),
    [
        (errno.ENOSPC, Trouble.FULL),
        (errno.EDQUOT, Trouble.FULL),
        (errno.EFBIG, Trouble.FULL),
        (errno.EMFILE, Trouble.SCARCE),
        (errno.ENFILE, Trouble.SCARCE),
        (errno.ENOMEM, Trouble.SCARCE),
        (errno.EIO, Trouble.BROKEN),
        (errno.EROFS, Trouble.BROKEN),
        (errno.EACCES, Trouble.BROKEN),
        (errno.ENOENT, Trouble.BROKEN),
    ],
)
def test_an_errno_says_what_is_wrong(code: int, trouble: Trouble) -> None:
    assert trouble_of(OSError(code, os.strerror(code))) is trouble


def test_an_error_without_an_errno_says_that_something_is_broken() -> None:
    assert trouble_of(OSError("no number")) is Trouble.BROKEN

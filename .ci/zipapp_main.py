# ruff: noqa: INP001 - a program, not a package
"""What Python runs first in the zipapp: choose the folder to unpack into, then hand over to shiv's own start.

1. SHIV_ROOT, when set, is the folder, or the start stops: exit code 2 and one line that says what is wrong with it.
2. Else the first that serves of $XDG_CACHE_HOME/pkgserver, ~/.cache/pkgserver and a folder of this user's own under
   the temporary folder. A container that runs as a user without a home comes to the last.
3. What is unpacked is run, so the folder must be one where nobody else can leave code: it belongs to this user or to
   root, and others cannot write to it. In a folder that all may write to, as /tmp is, a private one is made.
4. A folder that cannot be written serves when this very build is already unpacked there.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import zipfile
from pathlib import Path

import _bootstrap  # type: ignore[import-not-found]  # shiv puts it beside this file, in the zipapp


class UnusableFolderError(Exception):
    """A folder cannot be unpacked into, or must not be."""


def main() -> None:
    """Set SHIV_ROOT for shiv's bootstrap and start it; exit with code 2 when there is no folder to unpack into."""
    try:
        root = _first_usable(_unpacked_name(Path(sys.argv[0])))
    except UnusableFolderError as error:
        sys.stderr.write(f"pkgserver: nowhere to unpack to: {error}; set SHIV_ROOT to a folder of your own\n")
        sys.exit(2)
    os.environ["SHIV_ROOT"] = str(root)
    # A pool of compiling processes needs a writable /dev/shm, which a read-only container may lack.
    os.environ.setdefault("SHIV_COMPILE_WORKERS", "1")
    _bootstrap.bootstrap()


def _unpacked_name(zipapp: Path) -> str:
    with zipfile.ZipFile(zipapp) as archive:
        return f"{zipapp.resolve().name}_{json.loads(archive.read('environment.json'))['build_id']}"


def _first_usable(unpacked_name: str) -> Path:
    reasons = []
    for folder in _candidates():
        try:
            return _usable(folder, unpacked_name)
        except UnusableFolderError as error:
            reasons.append(str(error))
    raise UnusableFolderError(", ".join(reasons))


def _candidates() -> list[Path]:
    if os.environ.get("SHIV_ROOT"):
        return [Path(os.environ["SHIV_ROOT"]).absolute()]
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.expanduser raises for a user without a home
    caches = [Path(os.environ.get("XDG_CACHE_HOME", "")), Path(home, ".cache")]
    temporary = Path(os.environ.get("TMPDIR") or "/tmp").absolute()  # noqa: S108 - see rule 3
    # The XDG specification: a relative path is invalid and to be ignored.
    return [*(cache / "pkgserver" for cache in caches if cache.is_absolute()), temporary]


def _usable(candidate: Path, unpacked_name: str) -> Path:
    """Return the folder `candidate`, or a private one in it when all may write to it; either is made if need be."""
    try:
        candidate.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = candidate.resolve()
        if folder.stat().st_mode & stat.S_ISVTX:
            folder /= f"pkgserver-{os.getuid()}"
            folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()  # a link that someone else left there would show itself as one
    except OSError as error:
        raise UnusableFolderError(f"{candidate}: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in {os.getuid(), 0} or status.st_mode & stat.S_IWOTH:
        raise UnusableFolderError(f"{folder}: others could leave code there")
    if not os.access(folder, os.W_OK | os.X_OK) and not (folder / unpacked_name).is_dir():
        raise UnusableFolderError(f"{folder}: not writable")
    return folder


if __name__ == "__main__":
    main()

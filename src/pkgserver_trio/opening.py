"""What a server opens, makes and looks at before it serves."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from pkgserver_trio.hits.file import NoHitLogError, check_hit_log
from pkgserver_trio.mirror.object_records import ObjectRecords
from pkgserver_trio.registries.ledger import Ledger
from pkgserver_trio.storage.disk import Disk
from pkgserver_trio.storage.mtimes import Mtimes
from pkgserver_trio.storage.verified import Verified

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pkgserver_trio.mirror.object_path import ObjectName

_FOLDERS = ("cache", "static", "temp", "quarantine")


class StartError(Exception):
    """The server cannot start; the text says why."""


def make_folders(root: Path, names: Collection[str] = _FOLDERS) -> None:
    """Make the folders that are missing below `root`. Raises StartError."""
    try:
        for name in names:
            (root / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"the storage root {root} cannot be used: {error.strerror} ({error.filename})") from error


def empty(folder: Path) -> None:
    """Remove what an earlier server left in `folder`. Raises StartError."""
    try:
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    except OSError as error:
        raise StartError(f"{folder} cannot be emptied: {error.strerror} ({error.filename})") from error


def open_verified(path: Path) -> Verified:
    """Open the memory of what is verified. Raises StartError."""
    try:
        return Verified(path)
    except (sqlite3.Error, OSError) as error:
        raise StartError(f"{path} cannot be used: {error}") from error


def open_mirror_folder(root: Path) -> Path:
    """Make the folder of the mirror below `root`, without unfinished work and unknown files. Raises StartError."""
    folder = root / "mirror"
    make_folders(folder, ("cache", "temp", "quarantine"))
    for name in ("temp", "quarantine"):
        empty(folder / name)
    return folder


def open_records(path: Path, is_pointer: Callable[[ObjectName], bool]) -> ObjectRecords:
    """Open the memory of what is known of mirrored objects. Raises StartError."""
    try:
        return ObjectRecords(path, is_pointer)
    except (sqlite3.Error, OSError) as error:
        raise StartError(f"{path} cannot be used: {error}") from error


def open_ledger(path: Path) -> Ledger:
    """Open the memory of which registry was published when. Raises StartError."""
    try:
        return Ledger(path, Disk())
    except OSError as error:
        raise StartError(f"{path} cannot be read: {error.strerror}") from error


def open_mtimes(path: Path) -> Mtimes:
    """Open the memory of the modification times that downloads were given. Raises StartError."""
    try:
        return Mtimes(path, Disk())
    except OSError as error:
        raise StartError(f"{path} cannot be read: {error.strerror}") from error


def find_hit_logs(names: Collection[str]) -> list[Path]:
    """Return the logs to follow, of which some may not be there yet. Raises StartError for what is no log."""
    logs = [Path(name) for name in names]
    for log in logs:
        try:
            check_hit_log(log.stat())
        except NoHitLogError as error:
            raise StartError(f"PKGSERVER_HIT_LOGS: {log} is {error.strerror}") from error
        except OSError:
            continue
    return logs

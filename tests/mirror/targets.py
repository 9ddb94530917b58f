"""The two mirrors that one suite is for, nginx's and the server's own."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.conftest import require
from tests.deployment.front_end.running import PLAIN, running_front_end
from tests.integration.zipapp import running_zipapp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TARGETS: Final = ("nginx", "server")
#: A client of the suite waits no longer for anything.
PATIENCE_SECONDS: Final = 30
#: What both call alike: the object was not held, or not asked for before, and was got from its origin.
FETCHED: Final = ("MISS", "EXPIRED")
#: The origin has said that what is held is what there is.
CONFIRMED: Final = ("REVALIDATED",)
#: What was held was served, and the origin is asked beside that, or could not be.
STALE: Final = ("STALE", "UPDATING")
#: Nothing of it was kept. nginx says MISS of what it passes through, and of ranges nothing at all.
PASSED: Final = ("BYPASS", "MISS", None)
#: No storage server is asked by anything here.
_NOBODY: Final = "127.0.0.1:9"


@dataclass(frozen=True)
class Wishes:
    """What both can be told, in their own settings; seconds."""

    stale_while_revalidate_seconds: int = 0
    stale_if_error_seconds: int = 0

    def settings(self, prefix: str, buckets: str) -> dict[str, str]:
        """Return it as settings that are called alike but for the `prefix`."""
        return {
            f"{prefix}STALE_WHILE_REVALIDATE_SECONDS": str(self.stale_while_revalidate_seconds),
            f"{prefix}STALE_IF_ERROR_SECONDS": str(self.stale_if_error_seconds),
            f"{prefix}BUCKET{'_LIST' if prefix.startswith('S3') else 'S'}": buckets,
        }


@contextmanager
def running_target(kind: str, folder: Path, buckets: str, wishes: Wishes | None = None) -> Iterator[str]:
    """Run a mirror of `buckets`, in the grammar of both; yield the URL that these are below."""
    wishes = wishes or Wishes()
    if kind == "nginx":
        require("nginx", available=shutil.which("nginx") is not None, how_to_get="apt-get install nginx-light")
        settings = {**PLAIN, **wishes.settings("S3_MIRROR_", buckets), "S3_MIRROR_MIN_FREE": "0"}
        stores = [folder / "store1", folder / "store2"]
        with running_front_end(folder / "front", stores, [_NOBODY, _NOBODY], settings) as front_end:
            yield f"{front_end.url}/mirror"
    else:
        settings = {
            **wishes.settings("PKGSERVER_MIRROR_", buckets),
            "JULIA_PKG_SERVER_STORAGE_SERVERS": f"http://{_NOBODY}",
            "PKGSERVER_HEAD_SECONDS": "3",
            "PKGSERVER_BODY_SECONDS": "3",
        }
        with running_zipapp(folder, settings) as server:
            yield f"{server.url}/mirror"

"""Without descriptors a cached file cannot be opened now: it is asked for again later, and nothing is forgotten."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from pkgserver_trio.storage.disk import Disk
from pkgserver_trio.storage.verified import Verified

if TYPE_CHECKING:
    from pathlib import Path

    from tests.web.site import Serve

    from pkgserver_trio.demo.sample import Sample

SHORTAGES = pytest.mark.parametrize("shortage", [errno.EMFILE, errno.ENFILE])


@pytest.fixture
def shortages(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give a list; as long as it holds an error, no file can be opened for reading."""
    errors: list[int] = []
    real = Disk.open_for_reading

    def open_for_reading(disk: Disk, path: Path) -> int:
        if errors:
            raise OSError(errors[0], "no descriptor is left", str(path))
        return real(disk, path)

    monkeypatch.setattr(Disk, "open_for_reading", open_for_reading)
    return errors


@SHORTAGES
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_hit_is_503_while_there_is_a_shortage_and_a_hit_again_after_it(
    serve: Serve, sample: Sample, shortages: list[int], shortage: int, method: str
) -> None:
    path = sample.artifact.path
    site = await serve(files=sample.files)
    await site.warm(path)
    asked = len(site.upstream.seen)
    shortages.append(shortage)
    answer = await site.client.request(method, path)
    assert (answer.status_code, answer.headers["cache-control"]) == (503, "no-store")
    assert int(answer.headers["retry-after"]) > 0
    assert path in site.cached
    shortages.clear()
    hit = await site.client.get(path)
    assert hit.content == sample.files[path]
    assert "X-Cache-Miss" not in hit.headers
    assert [seen.path for seen in site.upstream.seen[asked:] if seen.path == path] == []


@SHORTAGES
async def test_a_file_that_nobody_has_checked_yet_is_kept_too(
    serve: Serve, sample: Sample, shortages: list[int], shortage: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sample.artifact.path
    first = await serve(files=sample.files)
    await first.warm(path)
    await first.stop()
    monkeypatch.setattr(Verified, "knows", lambda *_: False)
    shortages.append(shortage)
    second = await serve(files=sample.files)
    assert (await second.client.get(path)).status_code == 503
    shortages.clear()
    hit = await second.client.get(path)
    assert hit.content == sample.files[path]
    assert "X-Cache-Miss" not in hit.headers
    assert list((second.root / "quarantine").rglob("*")) == []
    assert second.upstream.requests("GET", path) == 0

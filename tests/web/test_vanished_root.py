"""The storage root goes away under the whole server, which makes it again and goes on."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from tests.web.site import until

from pkgserver_trio.demo.sample import build_sample
from pkgserver_trio.storage.store_lock import StoreLockedError, owned

if TYPE_CHECKING:
    from tests.web.site import Serve


async def test_a_root_that_vanished_is_made_again_and_filled_again(serve: Serve) -> None:
    before, after = build_sample(1), build_sample(2)
    site = await serve(files=before.files, ready=True)
    path, published = before.artifact.path, site.root / "static" / "registries.eager"
    await site.warm(path)

    shutil.rmtree(site.root)
    answer = await site.client.get(path)
    assert (answer.status_code, answer.content) == (200, before.files[path])
    assert (await site.warm(path)).content == before.files[path]
    site.upstream.files = after.files
    await until(lambda: published.exists() and after.registry.path.encode() in published.read_bytes())
    assert {path, after.registry.path} <= site.cached
    await site.settle()
    assert site.unfinished == []
    await site.stop()

    again = await serve(files={})
    assert (await again.client.get(path)).content == before.files[path]
    assert (await again.client.get("/registries.eager")).content == after.files["/registries.eager"]


async def test_the_new_root_is_owned_too(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pkgserver_trio.storage.store_lock._CHECK_SECONDS", 0.01)
    sample = build_sample(1)
    site = await serve(files=sample.files)
    shutil.rmtree(site.root)
    await site.client.get(sample.artifact.path)
    await until((site.root / ".lock").exists)
    with pytest.raises(StoreLockedError, match="is in use by"):
        async with owned(site.root, wait_seconds=0.1):
            pytest.fail("two owners")

from __future__ import annotations

from functools import partial

import httpx
import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from pkgserver_trio.demo.storage_server import storage_server


async def test_the_storage_server_offers_files_with_tags_and_lengths() -> None:
    files = {"/registries": b"lines\n"}
    transport = httpx.ASGITransport(storage_server(files))  # type: ignore[arg-type]  # httpx types ASGI more loosely
    async with httpx.AsyncClient(transport=transport, base_url="http://storage.invalid") as client:
        answer = await client.get("/registries")
        assert (answer.content, answer.headers["content-type"]) == (b"lines\n", "text/plain")
        head = await client.head("/registries")
        assert (head.content, head.headers) == (b"", answer.headers)
        known = {"if-none-match": f'"other", W/{answer.headers["etag"]}'}
        same = await client.get("/registries", headers=known)
        assert (same.status_code, same.content) == (304, b"")
        files["/registries"] = b"newer\n"
        assert (await client.get("/registries", headers=known)).content == b"newer\n"
        assert (await client.get("/unknown")).status_code == 404
        assert (await client.post("/registries")).headers["allow"] == "GET, HEAD"


async def test_the_storage_server_runs_without_a_lifespan() -> None:
    stopping = trio.Event()
    config = Config()
    config.bind, config.errorlog = ["127.0.0.1:0"], None
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(
            partial(serve, storage_server({"/x": b"body"}), config, shutdown_trigger=stopping.wait)
        )
        async with httpx.AsyncClient(base_url=url) as client:
            assert (await client.get("/x")).content == b"body"
            assert (await client.head("/x")).headers["content-length"] == "4"
        stopping.set()

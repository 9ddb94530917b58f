from __future__ import annotations

import httpx

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

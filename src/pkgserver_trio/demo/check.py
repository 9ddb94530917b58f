"""The demonstration checks itself: everything that a client would fetch, through the server, hashes compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
import httpx
import trio

from pkgserver_trio.resource import Resource
from pkgserver_trio.tarballs.stream import TarLimits
from pkgserver_trio.tarballs.tree_hash import TarballError, TreeHasher

if TYPE_CHECKING:
    from pkgserver_trio.demo.sample import Sample

_LIMITS = TarLimits(max_unpacked_bytes=1 << 30, max_members=100_000)
_START_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one request."""

    name: str
    path: str
    status: int
    size_bytes: int
    verdict: str
    right: bool


async def check_all(url: str, sample: Sample) -> int:
    """Fetch registries, registry, packages and artifact from the server at `url`; print a table.

    Return the exit code, 0 when all is right.
    """
    named = [
        ("General", sample.registry.path),
        *((f"{package.name} {package.version}", package.path) for package in sample.packages),
        (f"artifact {sample.artifact.name}", sample.artifact.path),
    ]
    async with httpx.AsyncClient(
        base_url=url, follow_redirects=True, timeout=_START_SECONDS, trust_env=False
    ) as client:
        rows = [await _check_listing(client, sample)]
        rows += [await _check_resource(client, name, path) for name, path in named]
    for row in rows:
        click.echo(f"{row.status}  {row.size_bytes:>8} bytes  {row.name:<18} {row.verdict:<20} {row.path}")
    wrong = sum(not row.right for row in rows)
    click.echo(f"{len(rows) - wrong} of {len(rows)} right")
    return 1 if wrong else 0


async def _check_listing(client: httpx.AsyncClient, sample: Sample) -> Row:
    response = await client.get("/registries")
    with trio.move_on_after(_START_SECONDS):
        while response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            await trio.sleep(0.05)  # the server has only just begun to ask its storage server
            response = await client.get("/registries")
    right = response.text == f"{sample.registry.path}\n"
    verdict = "lists the registry" if right else "wrong list"
    return Row("registries", response.url.path, response.status_code, len(response.content), verdict, right)


async def _check_resource(client: httpx.AsyncClient, name: str, path: str) -> Row:
    response = await client.get(path)
    verdict = _judge(path, response.content) if response.is_success else "not served"
    right = verdict == "tree hash right"
    return Row(name, path, response.status_code, len(response.content), verdict, right)


def _judge(path: str, tarball: bytes) -> str:
    resource = Resource.parse(path)
    hasher = TreeHasher(_LIMITS)
    try:
        hasher.feed(tarball)
        hashes = hasher.finish()
    except TarballError as error:
        return str(error)
    right = resource is not None and hashes.include(resource.tree_hash)
    return "tree hash right" if right else "tree hash wrong"

"""`/artifact/{hash}/{name}`: how a Julia project would name this artifact in its Artifacts.toml."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkgserver_trio.artifact_toml import render_artifact_toml
from pkgserver_trio.errors import ResourceUnavailableError
from pkgserver_trio.web import answers

if TYPE_CHECKING:
    from quart_trio.wrappers import TrioResponse

    from pkgserver_trio.library import Library
    from pkgserver_trio.resource import Resource
    from pkgserver_trio.web.request import Request


async def get_artifact_toml(
    library: Library, artifact: Resource, name: str, request: Request, *, public_url: str
) -> TrioResponse:
    """Answer once the artifact is held and its SHA-256 known."""
    try:
        sha256 = await library.sha256(artifact, peer=request.peer)
    except ResourceUnavailableError as error:
        return answers.unavailable(error)
    body = render_artifact_toml(name, artifact.tree_hash, f"{public_url}{artifact.path}", sha256)
    headers = {"Content-Type": "application/toml", "Content-Disposition": "attachment; filename=Artifacts.toml"}
    return answers.text(body, headers=headers)

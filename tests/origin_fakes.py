"""Git hosts that speak GitHub's, GitLab's or Gitea's API, made of a list of commits; in the language of behaviours."""

from __future__ import annotations

import json
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from hashlib import sha1
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.behaviours import MISSING, Behaviour, Request, strong_etag
from tests.fakes import FakeNetwork, FakeTransport
from tests.unit.trees import File, Node, reference

from pkgserver_trio.registries.origin_check import Origins, Outcome, open_origins
from pkgserver_trio.registries.origins import Forge
from pkgserver_trio.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

UUID = "23338594-aafe-5451-b93e-139f81909106"
OTHER = "0fed4e60-1c94-4bd5-8a0e-3d1ff1c0f2a7"
MISSING_HASH = "f" * 40

WEB = {Forge.GITHUB: "github.com", Forge.GITLAB: "gitlab.com", Forge.GITEA: "codeberg.org"}
API = {**WEB, Forge.GITHUB: "api.github.com"}
each_forge = pytest.mark.parametrize("forge", Forge)
PROJECT = "JuliaRegistries/General"


@dataclass(frozen=True)
class FakeCommit:
    """A commit with its tree; the tree's hash is what a registry's head is called."""

    id: str
    tree: Mapping[str, Node]

    @cached_property
    def tree_hash(self) -> str:
        return reference(dict(self.tree))[1].hex()


@cache
def commit(number: int) -> FakeCommit:
    tree: dict[str, Node] = {
        "A": {"Package.toml": File(b"a")},
        "A.toml": File(b""),
        "Registry.toml": File(b"%d" % number),
        "run": File(b"", executable=True),
    }
    return FakeCommit(sha1(b"commit %d" % number, usedforsecurity=False).hexdigest(), tree)


def history(size: int) -> list[FakeCommit]:
    """Return commits, the newest, which has the highest number, first."""
    return [commit(number) for number in range(size, 0, -1)]


def entries(tree: Mapping[str, Node]) -> list[dict[str, str]]:
    """Return a tree as GitLab lists it: folders first."""
    listed: list[dict[str, str]] = []
    for name, node in sorted(tree.items(), key=lambda item: (not isinstance(item[1], dict), item[0])):
        mode, digest = reference(node)
        kind = "tree" if isinstance(node, dict) else "blob"
        listed.append({"id": digest.hex(), "name": name, "type": kind, "path": name, "mode": f"{int(mode):06}"})
    return listed


@dataclass
class FakeForge:
    """A git host with one project; `commits` are its default branch, newest first, and may change at any time.

    Whatever else can be resolved there is in `elsewhere`. With a `token` the project is private. `overrides` answer
    the requests to come, one each, instead.
    """

    forge: Forge
    commits: Sequence[FakeCommit]
    project: str = PROJECT
    elsewhere: Sequence[FakeCommit] = ()
    token: str | None = None
    etags: bool = True
    tree_page: int = 100
    headers: Mapping[str, str] = field(default_factory=dict)
    overrides: list[Behaviour] = field(default_factory=list)

    def __call__(self, request: Request) -> Behaviour:
        if self.overrides:
            return self.overrides.pop(0)
        if self.token is not None and not request.headers.get("authorization", "").endswith(f" {self.token}"):
            return MISSING
        url = urlsplit(request.path)
        query = {name: value for name, (value,) in parse_qs(url.query).items()}
        project = self.project.replace("/", "%2F") if self.forge is Forge.GITLAB else self.project
        start = f"/api/v4/projects/{project}/repository" if self.forge is Forge.GITLAB else f"/repos/{project}"
        start = "/api/v1" + start if self.forge is Forge.GITEA else start
        if url.path == f"{start}/commits":
            assert self.forge is not Forge.GITLAB or query["first_parent"] == "true"
            return self._page(url.path, query, [self._shown(commit) for commit in self.commits])
        if self.forge is Forge.GITLAB and url.path == f"{start}/tree":
            tree = next(commit.tree for commit in [*self.commits, *self.elsewhere] if commit.id == query["ref"])
            return self._page(url.path, {**query, "per_page": str(self.tree_page)}, entries(tree))
        resolved = re.fullmatch(re.escape(start) + "(?:/git)?/(?:commits|trees)/([0-9a-f]{40})", url.path)
        known = {id_ for one in [*self.commits, *self.elsewhere] for id_ in (one.id, one.tree_hash)}
        return Behaviour(body=b"{}") if resolved and resolved[1] in known else MISSING

    def _shown(self, commit: FakeCommit) -> dict[str, Any]:
        if self.forge is Forge.GITLAB:
            return {"id": commit.id, "title": "New version"}
        return {"sha": commit.id, "commit": {"message": "New version", "tree": {"sha": commit.tree_hash}}}

    def _page(self, path: str, query: Mapping[str, str], items: Sequence[object]) -> Behaviour:
        size = int(query.get("per_page") or query["limit"])
        number = int(query.get("page", "1"))
        body = json.dumps(items[(number - 1) * size : number * size]).encode()
        following = {**query, "page": str(number + 1)}
        text = "&".join(f"{name}={value}" for name, value in following.items())
        link = f'<https://elsewhere.invalid{path}?{text}>; rel="next"' if number * size < len(items) else ""
        headers = {"link": link} if link else {}
        etag = strong_etag(body) if self.etags else None
        return Behaviour(body=body, etag=etag, headers={**headers, **self.headers})


@asynccontextmanager
async def opened(host: FakeForge, **settings: str) -> AsyncIterator[tuple[Origins, FakeTransport]]:
    """Open the check of one registry at `host`; settings of the environment may say more."""
    transport = FakeTransport(script=host)
    texts = {"PKGSERVER_REGISTRIES": f"{UUID}=https://{WEB[host.forge]}/{host.project}", **settings}
    network = FakeNetwork({API[host.forge]: transport})
    async with open_origins(Settings.from_mapping(texts), transport=network) as origins:
        yield origins, transport
    assert transport.open_answers == 0


async def outcome(origins: Origins, tree_hash: str) -> Outcome:
    return (await origins.check(UUID, tree_hash)).outcome

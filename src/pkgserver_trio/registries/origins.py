"""Origins: where on a git host a registry is made, and how that host is asked about it.

1. Three kinds of git host are known, by the names they usually have, or by a kind written before the URL
   (``gitlab+https://git.example.org/group/registry``). Any other host cannot be asked.
2. A project's path is taken only where nothing in it needs escaping, so that no URL can lead to another question.
3. A password in the URL is a token. Neither it nor any other token is ever part of a path or a repr.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Final
from urllib.parse import unquote, urlsplit

from pkgserver_trio.credentials import masked

_KIND = re.compile(r"(github|gitlab|gitea)\+(?=https?://)", re.IGNORECASE)
# What the three hosts allow in a name; none begins with a hyphen.
_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.][A-Za-z0-9_.-]*")
_PORTS: Final = {"http": 80, "https": 443}
#: What HTTP allows in a header, and no space: a token that broke a header would be shown by the error about that.
_TOKEN = re.compile(r"[!-~]{1,4096}")
_TOKEN_HOST = re.compile(r"(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
#: Entries of one page of a GitLab tree.
_TREE_ENTRIES: Final = 100


class OriginUrlError(ValueError):
    """The URL cannot be an origin; the text says why, without its password."""


class TokensError(ValueError):
    """The tokens cannot be read; the text says on which line, and nothing of what stands there."""


class Forge(Enum):
    """A kind of git host, by the API that it speaks."""

    GITHUB = "github"
    GITLAB = "gitlab"
    GITEA = "gitea"

    @property
    def page_commits(self) -> int:
        """How many commits one page lists, at most: what the host allows."""
        return 100 if self is Forge.GITHUB else 50

    @property
    def recent_commits(self) -> int:
        """How many of the newest commits are looked at; fewer where each costs a further question."""
        return 50 if self is Forge.GITLAB else 300

    def authorization(self, token: str) -> str:
        """Return the header that shows `token`."""
        return f"token {token}" if self is Forge.GITEA else f"Bearer {token}"


@dataclass(frozen=True, slots=True)
class Origin:
    """A project on a git host: `host` is its name there (with a port unless it is the usual one), `api` a URL."""

    forge: Forge
    host: str
    api: str
    project: str
    token: str | None = field(default=None, repr=False)

    @property
    def is_private(self) -> bool:
        """Nobody else can listen to what the host is told."""
        parts = urlsplit(self.api)
        return parts.scheme == "https" or parts.hostname in _LOCAL_HOSTS

    @property
    def commits_path(self) -> str:
        """What to ask for the newest commits of the default branch."""
        size = self.forge.page_commits
        if self.forge is Forge.GITLAB:
            return f"{self._repository}/commits?per_page={size}&first_parent=true"
        if self.forge is Forge.GITEA:
            return f"/repos/{self.project}/commits?limit={size}&stat=false&verification=false&files=false"
        return f"/repos/{self.project}/commits?per_page={size}"

    def tree_path(self, commit_id: str) -> str:
        """Return what to ask a GitLab for the root tree of a commit."""
        return f"{self._repository}/tree?ref={commit_id}&per_page={_TREE_ENTRIES}&pagination=keyset"

    @property
    def _repository(self) -> str:
        return f"/projects/{self.project.replace('/', '%2F')}/repository"


def parse_origin(url: str) -> Origin | None:
    """Return what an http or https URL, with or without a kind before it, names; None for a host of no known kind.

    Raises OriginUrlError where a host of a known kind has no such project.
    """
    kind = _KIND.match(url)
    parts = urlsplit(url[kind.end() :] if kind else url)
    name = parts.hostname or ""
    forge = Forge(kind[1].lower()) if kind else _usual_forge(name)
    if forge is None:
        return None
    project = parts.path.strip("/").removesuffix(".git")
    names = project.split("/")
    if not all(map(_NAME.fullmatch, names)) or len(names) < 2 or (forge is not Forge.GITLAB and len(names) > 2):  # noqa: PLR2004 # owner and name; only GitLab nests owners
        raise OriginUrlError(f"{masked(url)} names no project: expected the path owner/name")
    port = "" if parts.port in {None, _PORTS[parts.scheme]} else f":{parts.port}"
    host = (f"[{name}]" if ":" in name else name) + port
    token = unquote(parts.password or parts.username or "") or None
    if token and not _TOKEN.fullmatch(token):
        raise OriginUrlError(f"{masked(url)} has a password that cannot be a token")
    return Origin(forge, host, _api(forge, parts.scheme, host), project, token)


def _usual_forge(name: str) -> Forge | None:
    if name == "github.com" or name.startswith("github."):
        return Forge.GITHUB
    if name.startswith("gitlab."):
        return Forge.GITLAB
    return Forge.GITEA if name == "codeberg.org" or name.startswith(("gitea.", "forgejo.")) else None


def _api(forge: Forge, scheme: str, host: str) -> str:
    if host == "github.com":
        return f"{scheme}://api.github.com"
    version = {Forge.GITHUB: "v3", Forge.GITLAB: "v4", Forge.GITEA: "v1"}[forge]
    return f"{scheme}://{host}/api/{version}"


def parse_tokens(text: str) -> dict[str, str]:
    """Read lines of ``host=token``; blank ones and those that begin with ``#`` are none. Raises TokensError."""
    tokens: dict[str, str] = {}
    for number, line in enumerate(map(str.strip, text.removeprefix("\ufeff").split("\n")), start=1):
        if not line or line.startswith("#"):
            continue
        host, _, token = (part.strip() for part in line.partition("="))
        host = host.lower()
        if not _TOKEN_HOST.fullmatch(host) or not _TOKEN.fullmatch(token):
            raise TokensError(f"line {number}: expected host=token")
        if host in tokens:
            raise TokensError(f"line {number}: this host has a token already")
        tokens[host] = token
    return tokens

"""Origins as values: which URL is which project on which host, and which tokens a file holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgserver_trio.registries.origins import Forge, OriginUrlError, TokensError, parse_origin, parse_tokens

TOKEN = "s3cr3t"

KNOWN = [
    ("https://github.com/JuliaRegistries/General", Forge.GITHUB, "https://api.github.com"),
    ("https://GitHub.com:443/JuliaRegistries/General.git/", Forge.GITHUB, "https://api.github.com"),
    ("https://github.example.org/JuliaRegistries/General", Forge.GITHUB, "https://github.example.org/api/v3"),
    ("github+http://git.example.org/JuliaRegistries/General", Forge.GITHUB, "http://git.example.org/api/v3"),
    ("https://gitlab.com/JuliaRegistries/General", Forge.GITLAB, "https://gitlab.com/api/v4"),
    ("https://gitlab.example.org:8443/JuliaRegistries/General", Forge.GITLAB, "https://gitlab.example.org:8443/api/v4"),
    ("GitLab+https://git.example.org/JuliaRegistries/General", Forge.GITLAB, "https://git.example.org/api/v4"),
    ("https://codeberg.org/JuliaRegistries/General", Forge.GITEA, "https://codeberg.org/api/v1"),
    ("https://gitea.example.org/JuliaRegistries/General", Forge.GITEA, "https://gitea.example.org/api/v1"),
    ("https://forgejo.example.org/JuliaRegistries/General", Forge.GITEA, "https://forgejo.example.org/api/v1"),
    ("gitea+http://[::1]:3000/JuliaRegistries/General", Forge.GITEA, "http://[::1]:3000/api/v1"),
]


@pytest.mark.parametrize(("url", "forge", "api"), KNOWN)
def test_a_host_is_known_by_its_name_or_by_the_kind_before_the_url(url: str, forge: Forge, api: str) -> None:
    origin = parse_origin(url)
    assert origin is not None
    assert (origin.forge, origin.api, origin.project) == (forge, api, "JuliaRegistries/General")


@pytest.mark.parametrize(
    "url",
    [
        "https://git.example.org/a/b",
        "https://mygithub.com/a/b",
        "https://notgitlab.com/a/b",
        "https://github.com@git.example.org/a/b",
        "https://git.example.org/github.com/a",
    ],
)
def test_another_host_is_not_known(url: str) -> None:
    assert parse_origin(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com",
        "https://github.com/General",
        "https://github.com/a/b/c",
        "https://github.com/a//b",
        "https://github.com/a/..",
        "https://github.com/a/.git",
        "https://github.com/a/b%2Fc",
        "https://github.com/a/b;c",
        "https://gitlab.com/group",
        "https://gitlab.com/group/project/-/tree",
    ],
)
def test_a_known_host_without_such_a_project_is_an_error(url: str) -> None:
    with pytest.raises(OriginUrlError, match="names no project: expected the path owner/name"):
        parse_origin(url)


def test_subgroups_are_one_segment_of_a_gitlab_path() -> None:
    origin = parse_origin("https://gitlab.com/group/sub.group/project.jl")
    assert origin is not None
    assert origin.commits_path.startswith("/projects/group%2Fsub.group%2Fproject.jl/repository/commits?")
    assert origin.tree_path("c" * 40).startswith(
        f"/projects/group%2Fsub.group%2Fproject.jl/repository/tree?ref={'c' * 40}&"
    )


@pytest.mark.parametrize("user", [TOKEN, f"x-access-token:{TOKEN}", f"oauth2:{TOKEN.replace('3', '%33')}"])
def test_a_password_in_the_url_is_a_token_and_is_never_shown(user: str) -> None:
    origin = parse_origin(f"https://{user}@gitlab.com/a/b")
    assert origin is not None
    assert origin.token == TOKEN
    assert TOKEN not in repr(origin) + origin.api + origin.host + origin.commits_path


@pytest.mark.parametrize("user", [f"{TOKEN}%0d%0aX:%0d", f"u:{TOKEN}%20"])
def test_a_password_that_would_break_a_header_is_an_error_that_does_not_show_it(user: str) -> None:
    with pytest.raises(OriginUrlError, match="cannot be a token") as caught:
        parse_origin(f"https://{user}@gitlab.com/a/b")
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "is_private"),
    [("https://gitlab.com/a/b", True), ("http://gitlab.com/a/b", False), ("gitea+http://127.0.0.1:3000/a/b", True)],
)
def test_only_https_and_this_machine_are_private(url: str, is_private: bool) -> None:  # noqa: FBT001 # a table
    origin = parse_origin(url)
    assert origin is not None
    assert origin.is_private is is_private


def test_tokens_are_lines_of_host_and_token() -> None:
    text = f"\ufeff# private ones\n\n GitLab.com = {TOKEN}=\r\ngit.example.org:8443=b\n[::1]:3000=c"
    assert parse_tokens(text) == {"gitlab.com": f"{TOKEN}=", "git.example.org:8443": "b", "[::1]:3000": "c"}


@pytest.mark.parametrize(
    "line",
    [
        TOKEN,
        f"={TOKEN}",
        "github.com=",
        f"https://github.com={TOKEN}",
        f"github.com={TOKEN} {TOKEN}",
        f"github.com={TOKEN}\u00fc",
        f"github.com={TOKEN}\x00",
        f"github.com={TOKEN * 1000}",
    ],
)
def test_a_wrong_line_is_an_error_with_its_number_and_nothing_else(line: str) -> None:
    with pytest.raises(TokensError) as caught:
        parse_tokens(f"# tokens\n{line}\n")
    assert str(caught.value) == "line 2: expected host=token"
    assert caught.value.__context__ is None


def test_a_host_has_one_token() -> None:
    with pytest.raises(TokensError) as caught:
        parse_tokens(f"github.com=a\nGITHUB.com={TOKEN}\n")
    assert str(caught.value) == "line 2: this host has a token already"


@given(st.text(max_size=80))
def test_any_text_is_tokens_or_an_error(text: str) -> None:
    try:
        tokens = parse_tokens(text)
    except TokensError:
        return
    assert all(token.isascii() and token.isprintable() and " " not in token for token in tokens.values())


@given(st.from_regex(r"(?:git(?:hub|lab|ea)\+)?https://git(?:hub|lab)\.com/[!-~]{0,40}", fullmatch=True))
def test_no_url_leads_to_another_question_than_for_a_project(url: str) -> None:
    try:
        origin = parse_origin(url)
    except (OriginUrlError, ValueError):
        return
    assert origin is not None
    assert origin.api.startswith("https://")
    path, _, query = origin.commits_path.partition("?")
    assert path.endswith("/commits")
    assert not {"..", "."} & set(path.split("/"))
    assert "#" not in path + query

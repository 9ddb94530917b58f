"""The ``Artifacts.toml`` that PkgServer.jl renders for one artifact at ``/artifact/{hash}/{name}``."""

from __future__ import annotations

import json
import re

_BARE_KEY = re.compile("[A-Za-z0-9_-]+")


def render_artifact_toml(name: str, tree_hash: str, url: str, sha256: str) -> str:
    """Return the text that binds ``name`` to an artifact in a Julia project.

    ``tree_hash`` is the artifact's git tree hash; ``sha256`` (hexadecimal) is that of the tarball at ``url``.
    """
    key = name if _BARE_KEY.fullmatch(name) else _quoted(name)
    return (
        f"[{key}]\n"
        f"git-tree-sha1 = {_quoted(tree_hash)}\n"
        "\n"
        f"    [[{key}.download]]\n"
        f"    sha256 = {_quoted(sha256)}\n"
        f"    url = {_quoted(url)}\n"
    )


def _quoted(text: str) -> str:
    # A JSON string is a TOML basic string, but for DEL, which only TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")

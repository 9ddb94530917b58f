"""Names that look like settings and are none: which are mistakes, and what was probably meant."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from pkgserver_trio.settings.deployment import DEPLOYMENT_NAMES
from pkgserver_trio.settings.table import all_settings

if TYPE_CHECKING:
    from collections.abc import Iterable

# Both prefixes, and what people make of them.
_PREFIX = re.compile(r"(?:JULIA_)?PKG_?SERVER_", re.IGNORECASE)
# Below this, difflib proposes names that share nothing but common endings.
_CLOSE: Final = 0.75


def misnamed(name: str) -> str | None:
    """Return one line about a `name` that only looks like a setting; None for a setting, or a name not like ours.

    The deployment's names are like ours, and are right in the same files.
    """
    if not _PREFIX.match(name) or name in _known() or name in DEPLOYMENT_NAMES:
        return None
    meant = _meant(name)
    return f"{name} is not a setting" + (f": did you mean {meant}?" if meant else "")


def environment_warnings(names: Iterable[str]) -> tuple[str, ...]:
    """Return one line for each of the environment's `names` that is probably a misspelt setting, sorted by name.

    A client's own variables are `JULIA_PKG_SERVER_*` too (each becomes a header of its requests), so such a name
    counts only when it is close to one of ours.
    """
    suspects = (name for name in sorted(names) if name.upper().startswith("PKGSERVER_") or _meant(name))
    return tuple(line for line in map(misnamed, suspects) if line)


def _known() -> frozenset[str]:
    return frozenset(setting.name for setting in all_settings())


def _meant(name: str) -> str | None:
    """Return the setting whose name is closest, compared without prefixes: they are what is confused most."""
    if not _PREFIX.match(name):
        return None
    by_stem = {_stem(known): known for known in _known()}
    return next((by_stem[stem] for stem in get_close_matches(_stem(name), by_stem, n=1, cutoff=_CLOSE)), None)


def _stem(name: str) -> str:
    return _PREFIX.sub("", name.upper(), count=1)

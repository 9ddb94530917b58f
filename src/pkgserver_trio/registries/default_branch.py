"""The default branch of one origin: whether a hash is the tree of a recent commit of it.

1. Who cannot see refuses nothing: a hash is refused only when all recent commits were looked at.
2. A hash that was confirmed stays so, and costs nothing more. One that was refused is looked for again after a time
   that doubles, since a host may show a commit late; in between the same answer is given for nothing.
3. One search of an origin runs at a time; who waited for it takes what it found. Between two searches lie at least
   `PAUSE_SECONDS`, however many hashes are asked about, and more while the origin fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import partial
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from pkgserver_trio.registries.origin_answers import (
    UnexpectedAnswerError,
    parse_commits,
    parse_tree,
    root_tree_hash,
)
from pkgserver_trio.registries.origin_api import OriginUnavailableError
from pkgserver_trio.upstream.backoff import Backoff

if TYPE_CHECKING:
    from pkgserver_trio.registries.origin_answers import Commit, TreeEntry
    from pkgserver_trio.registries.origin_api import Answer, OriginApi
    from pkgserver_trio.registries.origins import Origin

V = TypeVar("V")

PAUSE_SECONDS: Final = 5.0
SEARCH_SECONDS: Final = 60.0
FIRST_REFUSAL_SECONDS: Final = 10.0
LONGEST_REFUSAL_SECONDS: Final = 1800.0
#: How many hashes are remembered of each origin, confirmed ones and refused ones.
MAX_REMEMBERED: Final = 1000
#: What the root of a registry may hold, in pages of a hundred entries.
MAX_TREE_PAGES: Final = 10


class Outcome(Enum):
    """What the origin says of a hash; UNKNOWN when it said nothing, UNCHECKED when it is not asked."""

    CONFIRMED = "confirmed"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True)
class OriginVerdict:
    """An outcome, and why. Before `ask_again_at`, by Trio's clock, asking again brings the same for nothing."""

    outcome: Outcome
    reason: str = ""
    ask_again_at: float = -inf


class DefaultBranch:
    """The newest commits of an origin's default branch, as far as they were needed."""

    def __init__(self, origin: Origin, api: OriginApi) -> None:
        self._origin, self._api = origin, api
        self._parse = partial(parse_commits, origin.forge)
        self._lock = trio.Lock()
        # The recent commits that were seen, newest first, and the tree of each; None: not asked for yet.
        self._trees: dict[str, str | None] = {}
        self._newest: Answer[tuple[Commit, ...]] | None = None
        self._pages = 0
        self._next_path: str | None = None
        self._confirmed: dict[str, None] = {}
        self._refused: dict[str, tuple[OriginVerdict, float]] = {}
        self._backoff = Backoff()
        self._rest = OriginVerdict(Outcome.UNKNOWN)

    async def check(self, tree_hash: str) -> OriginVerdict:
        """Tell whether `tree_hash` is the tree of a recent commit."""
        async with self._lock:
            return self._remembered(tree_hash) or await self._search(tree_hash)

    def _remembered(self, tree_hash: str) -> OriginVerdict | None:
        now = trio.current_time()
        if tree_hash in self._confirmed or tree_hash in self._trees.values():
            return self._confirm(tree_hash)
        refusal, _ = self._refused.get(tree_hash, (None, 0))
        if refusal is not None and now < refusal.ask_again_at:
            return refusal
        return self._rest if now < self._rest.ask_again_at else None

    async def _search(self, tree_hash: str) -> OriginVerdict:
        self._begin_rest("was asked a moment ago")
        try:
            with trio.fail_after(SEARCH_SECONDS):
                found = await self._find(tree_hash)
        except trio.TooSlowError:
            return self._fail(f"took more than {SEARCH_SECONDS:g} seconds; the search goes on where it was")
        except UnexpectedAnswerError as error:
            return self._fail(str(error))
        except OriginUnavailableError as error:
            return self._fail(error.reason, error.ask_again_at)
        self._backoff.succeed()
        self._begin_rest("was asked a moment ago")
        return self._confirm(tree_hash) if found else self._refuse(tree_hash)

    def _begin_rest(self, reason: str, until: float = -inf) -> OriginVerdict:
        until = max(until, self._backoff.rests_until, trio.current_time() + PAUSE_SECONDS)
        self._rest = OriginVerdict(Outcome.UNKNOWN, f"{self._origin.host} {reason}", until)
        return self._rest

    def _fail(self, reason: str, ask_again_at: float = -inf) -> OriginVerdict:
        self._backoff.fail(trio.current_time())
        return self._begin_rest(reason, ask_again_at)

    def _confirm(self, tree_hash: str) -> OriginVerdict:
        _remember(self._confirmed, tree_hash, None)
        return OriginVerdict(Outcome.CONFIRMED)

    def _refuse(self, tree_hash: str) -> OriginVerdict:
        _, before = self._refused.get(tree_hash, (None, FIRST_REFUSAL_SECONDS / 2))
        pause = min(2 * before, LONGEST_REFUSAL_SECONDS)
        place = f"the newest {self._origin.forge.recent_commits} commits of {self._origin.host}/{self._origin.project}"
        verdict = OriginVerdict(Outcome.REFUSED, f"not among {place}", trio.current_time() + pause)
        _remember(self._refused, tree_hash, (verdict, pause))
        return verdict

    async def _find(self, tree_hash: str) -> bool:
        forge = self._origin.forge
        await self._refresh()
        while not await self._holds(tree_hash):
            if self._next_path is None or self._pages * forge.page_commits >= forge.recent_commits:
                return False
            page = await self._api.fetch(self._next_path, self._parse)
            self._pages, self._next_path = self._pages + 1, page.next_path
            self._trees.update((commit.id, commit.tree_hash) for commit in page.value)
        return True

    async def _refresh(self) -> None:
        """Fetch the newest commits; older ones that were seen still count where the new ones lead to them."""
        page = await self._api.fetch(self._origin.commits_path, self._parse, known=self._newest)
        trees = {commit.id: commit.tree_hash for commit in page.value}
        if not trees:
            raise UnexpectedAnswerError("lists no commits")
        if next(iter(self._trees), None) in trees:
            trees |= self._trees
        else:
            self._pages, self._next_path = 1, page.next_path
        self._newest = page
        self._trees = dict(islice(trees.items(), self._origin.forge.recent_commits))

    async def _holds(self, tree_hash: str) -> bool:
        for commit_id, known in tuple(self._trees.items()):
            tree = self._trees[commit_id] = known or await self._fetch_tree(commit_id)
            if tree == tree_hash:
                return True
        return False

    async def _fetch_tree(self, commit_id: str) -> str:
        path = self._origin.tree_path(commit_id)
        entries: list[TreeEntry] = []
        for _ in range(MAX_TREE_PAGES):
            page = await self._api.fetch(path, parse_tree)
            entries += page.value
            if page.next_path is None:
                return root_tree_hash(entries)
            path = page.next_path
        raise UnexpectedAnswerError(f"lists a tree of more than {MAX_TREE_PAGES} pages")


def _remember(memory: dict[str, V], tree_hash: str, value: V) -> None:
    """Put a hash last, and forget those that have been there longest."""
    memory.pop(tree_hash, None)
    memory[tree_hash] = value
    if len(memory) > MAX_REMEMBERED:
        del memory[next(iter(memory))]

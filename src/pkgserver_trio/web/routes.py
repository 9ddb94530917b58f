"""A route: what answers at one path, by method."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from pkgserver_trio.web import answers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from quart_trio.wrappers import TrioResponse

    from pkgserver_trio.web.request import Request

Answer: TypeAlias = "Callable[[Request], Awaitable[TrioResponse]]"
Page: TypeAlias = "Callable[[Request], TrioResponse]"


class Route:
    """Itself an `Answer`: that of the request's method, or 405 with the methods that have one."""

    def __init__(self, by_method: Mapping[str, Answer]) -> None:
        self._by_method = by_method

    async def __call__(self, request: Request) -> TrioResponse:
        """Answer."""
        answer = self._by_method.get(request.method)
        if answer is None:
            return answers.not_allowed(", ".join(self._by_method))
        return await answer(request)


def at_once(page: Page) -> Answer:
    """Return what answers with a page that waits for nothing."""

    async def answer(request: Request) -> TrioResponse:
        return page(request)

    return answer


def readable(answer: Answer, head: Answer | None = None) -> Route:
    """Return the route of what can be looked at only; without `head` it is GET's answer, whose body is left out."""
    return Route({"GET": answer, "HEAD": head or answer})

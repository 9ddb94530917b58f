"""nginx answers for the servers, so nobody may see which of them it was: the same status, headers and bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from tests.deployment.front_end.conftest import BORN, SAMPLE

from pkgserver_trio.validators import http_date

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import httpx
    from tests.deployment.front_end.conftest import Stack

pytestmark = pytest.mark.integration

ARTIFACT = SAMPLE.artifact.path
SIZE = len(SAMPLE.files[ARTIFACT])
TAG, DATE = "the tag of the resource", "its Last-Modified"
#: The connection's own, and those that say who answered when.
NOT_THE_ANSWERS = frozenset({"date", "server", "connection", "keep-alive"})

CONDITIONS: list[Mapping[str, str]] = [
    {},
    {"If-None-Match": TAG},
    {"If-None-Match": '"other"'},
    {"If-None-Match": f'"other", W/{TAG}'},
    {"If-None-Match": "*"},
    {"If-Modified-Since": DATE},
    {"If-Modified-Since": "Sun, 06 Nov 1994 08:49:37 GMT"},
    {"If-Modified-Since": "yesterday"},
    {"If-None-Match": '"other"', "If-Modified-Since": DATE},
]
RANGES: list[Mapping[str, str]] = [
    {"Range": value}
    for value in (
        "bytes=0-0",
        "bytes=0-99",
        "bytes=-10",
        f"bytes=0-{SIZE}",
        f"bytes=-{SIZE + 1}",
        f"bytes={SIZE}-",
        "bytes=5-4",
        "bytes=-0",
        "bytes=0-0,2-2",
        "bytes=0-0,-1",
        "pages=1-2",
    )
]
FROM_THE_MIDDLE: list[Mapping[str, str]] = [
    {"Range": "bytes=10-"},
    {"Range": f"bytes={SIZE - 1}-{SIZE}"},
    {"Range": "bytes=10-", "If-None-Match": TAG},
    {"Range": f"bytes={SIZE}-", "If-None-Match": TAG},
]
CONDITIONAL_RANGES: list[Mapping[str, str]] = [
    {"Range": "bytes=0-9", "If-Range": TAG},
    {"Range": "bytes=0-9", "If-Range": '"other"'},
    {"Range": "bytes=0-9", "If-Range": f"W/{TAG}"},
    {"Range": "bytes=0-9", "If-Range": DATE},
    {"Range": "bytes=0-9", "If-Range": "Sun, 06 Nov 1994 08:49:37 GMT"},
    {"Range": "bytes=0-9", "If-None-Match": TAG},
]


class Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes


def comparable(answer: httpx.Response) -> Answer:
    headers = sorted(header for header in answer.headers.multi_items() if header[0] not in NOT_THE_ANSWERS)
    return Answer(answer.status_code, headers, answer.content)


def fill_in(asked: Mapping[str, str]) -> dict[str, str]:
    tag = f'"{BORN:x}-{SIZE:x}"'
    said = {name: value.replace(TAG, tag).replace(DATE, http_date(BORN)) for name, value in asked.items()}
    return {"X-Request-ID": "same", **said}


async def all_answers(client: httpx.AsyncClient, method: str, cases: Sequence[Mapping[str, str]]) -> dict[str, Answer]:
    """Return what is answered in each case, by what was asked."""
    return {str(asked): comparable(await client.request(method, ARTIFACT, headers=fill_in(asked))) for asked in cases}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_hit_is_the_same_from_nginx_and_from_the_server(stack: Stack, method: str) -> None:
    await stack.warm(ARTIFACT)
    cases = [*CONDITIONS, *RANGES, *CONDITIONAL_RANGES]
    from_nginx = await all_answers(stack.front, method, cases)
    assert from_nginx == await all_answers(stack.bare, method, cases)
    assert {answer.status for answer in from_nginx.values()} == {200, 206, 304, 416}


async def test_from_the_middle_on_nginx_does_not_say_how_long_it_holds(stack: Stack) -> None:
    await stack.warm(ARTIFACT)
    from_nginx = await all_answers(stack.front, "GET", FROM_THE_MIDDLE)
    from_server = await all_answers(stack.bare, "GET", FROM_THE_MIDDLE)
    kept = ("cache-control", "public, max-age=31536000, immutable")
    assert from_nginx == {
        asked: answer._replace(headers=[header for header in answer.headers if header != kept])
        for asked, answer in from_server.items()
    }


async def test_a_tag_and_a_date_that_do_not_belong_together_are_another_matter_to_nginx(stack: Stack) -> None:
    await stack.warm(ARTIFACT)
    asked = [{"If-None-Match": TAG, "If-Modified-Since": "Sun, 06 Nov 1994 08:49:37 GMT"}]
    statuses = [
        answer.status
        for client in (stack.front, stack.bare)
        for answer in (await all_answers(client, "GET", asked)).values()
    ]
    assert statuses == [200, 304]


@pytest.mark.parametrize("condition", ["If-Match", "If-Unmodified-Since"])
async def test_what_may_only_be_answered_unchanged_is_another_matter_to_nginx(stack: Stack, condition: str) -> None:
    await stack.warm(ARTIFACT)
    asked = {condition: '"other"' if condition == "If-Match" else "Sun, 06 Nov 1994 08:49:37 GMT"}
    answers = [await client.get(ARTIFACT, headers=asked) for client in (stack.front, stack.bare)]
    assert [(answer.status_code, "Cache-Control" in answer.headers) for answer in answers] == [
        (412, False),
        (200, True),
    ]

"""`/readyz`: whether there is a registry to serve, and what each storage server said last."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import trio

from pkgserver_trio.printable import printable
from pkgserver_trio.web import answers

if TYPE_CHECKING:
    from collections.abc import Collection

    from quart_trio.wrappers import TrioResponse

    from pkgserver_trio.registries.flavor import Flavor
    from pkgserver_trio.registries.poll import Poll

#: Without an answer from any storage server for so long, a registry counts as stale.
STALE_SECONDS = 60


def readiness(flavors: Collection[Flavor]) -> TrioResponse:
    """Answer 503 without any registry; else 200, and whether all is well."""
    if all(flavor.listing is None for flavor in flavors):
        status = "unavailable"
    elif any(flavor.listing is None or _is_troubled(flavor) for flavor in flavors):
        status = "degraded"
    else:
        status = "ok"
    report = {"status": status, "registries": {flavor.label: _describe(flavor) for flavor in flavors}}
    return answers.json_text(report, HTTPStatus.SERVICE_UNAVAILABLE if status == "unavailable" else HTTPStatus.OK)


def _is_troubled(flavor: Flavor) -> bool:
    ages = [_age(poll.succeeded) for poll in flavor.polls]
    return (
        bool(flavor.held_back)
        or any(poll.error for poll in flavor.polls)
        or not any(age is not None and age < STALE_SECONDS for age in ages)
    )


def _describe(flavor: Flavor) -> dict[str, Any]:
    return {
        "published": {uuid: _describe_registry(flavor, uuid, head) for uuid, head in sorted(flavor.published.items())},
        "held_back": {
            uuid: {head: printable(why) for head, why in heads.items()} for uuid, heads in flavor.held_back.items()
        },
        "storage_servers": {poll.server.name: _describe_server(flavor, poll) for poll in flavor.polls},
    }


def _describe_registry(flavor: Flavor, uuid: str, head: str) -> dict[str, Any]:
    adopted, age = flavor.adopted_seconds(uuid), flavor.age_seconds(uuid)
    return {
        "hash": head,
        "adopted": adopted and datetime.fromtimestamp(adopted, UTC).isoformat(timespec="seconds"),
        "age_seconds": age and round(age, 3),
        "refused_rollbacks": {
            server: count for (registry, server), count in flavor.rollbacks.refused.items() if registry == uuid
        },
    }


def _describe_server(flavor: Flavor, poll: Poll) -> dict[str, Any]:
    return {
        "error": poll.error and printable(poll.error),
        "seconds_since_success": _age(poll.succeeded),
        "flavors": poll.has_flavors,
        "malformed_lines": poll.malformed,
        "registries_not_served": flavor.unknown(poll),
    }


def _age(since: float | None) -> float | None:
    return None if since is None else round(trio.current_time() - since, 3)

"""What can go wrong on the way to a resource, in the words of the layers that meet it.

An `UpstreamError` is one storage server's failure; a `ResourceUnavailableError` is what becomes of a request when
every way was tried. Only `web/` knows which status each of them is (docs/protocol.md, "When a resource cannot be
served").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


class UpstreamError(Exception):
    """One storage server did not deliver; `server` is its name (credentials masked), `reason` says what it did."""

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(f"{server}: {reason}")
        self.server = server
        self.reason = reason


class AbsentError(UpstreamError):
    """The server says that it has no such resource (403, 404, 410)."""


class DeniedError(AbsentError):
    """The origin of a bucket says that the object is not for everybody (403)."""


class SilentError(UpstreamError):
    """The server did not answer, or stopped answering, within its time."""


class BrokenError(UpstreamError):
    """The server answered with something that is no delivery: an error status, a reset, a wrong length."""


class CorruptError(UpstreamError):
    """The server delivered bytes that are not the tree they were asked by."""


class ResourceUnavailableError(Exception):
    """The resource cannot be served now; `failures` tells what each storage server did."""

    def __init__(self, reason: str, failures: Sequence[UpstreamError] = ()) -> None:
        super().__init__(reason)
        self.failures = tuple(failures)


class NotFoundError(ResourceUnavailableError):
    """Every configured storage server says that the resource does not exist."""


class ForbiddenError(ResourceUnavailableError):
    """The origin says that the object is not to be had by who asks as this server does."""


class UpstreamSilentError(ResourceUnavailableError):
    """No storage server answered in time."""


class UpstreamFailedError(ResourceUnavailableError):
    """At least one storage server failed otherwise than by silence, and none delivered."""


class StorageFullError(ResourceUnavailableError):
    """The disk has no room left for the download."""


class StorageFailedError(ResourceUnavailableError):
    """The disk failed the download in another way than by being full."""


class QueueFullError(ResourceUnavailableError):
    """More is waited for than this server can ask for."""


class PeerOverBoundError(ResourceUnavailableError):
    """One peer waits for more than one peer may."""


class ShuttingDownError(ResourceUnavailableError):
    """The server is stopping and the download was cancelled with it."""


class BrokenOffError(Exception):
    """An answer that has begun cannot be finished with right bytes; its connection has to be broken."""


def verdict(name: str, failures: Collection[UpstreamError]) -> ResourceUnavailableError:
    """Return what the storage servers' failures amount to for the resource called `name`.

    Not found only if every one of them said so, silent if all others were silent, failed otherwise.
    """
    told = "; ".join(str(failure) for failure in failures) or "no storage server is configured"
    real = [failure for failure in failures if not isinstance(failure, AbsentError)]
    if failures and not real:
        return NotFoundError(f"{name} was not found on any storage server: {told}", tuple(failures))
    if real and all(isinstance(failure, SilentError) for failure in real):
        return UpstreamSilentError(f"no storage server answered in time for {name}: {told}", tuple(failures))
    return UpstreamFailedError(f"no storage server could deliver {name}: {told}", tuple(failures))


def most_telling(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one exception of a nursery's group that tells most: a cancellation, a defect, a failure.

    Two tasks of one download can fail at the same moment, of the same cause; the callers want one reason.
    """
    leaves: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop()
        if isinstance(error, BaseExceptionGroup):
            pending.extend(error.exceptions)
        else:
            leaves.append(error)
    fatal = [leaf for leaf in leaves if not isinstance(leaf, Exception)]
    broken = [leaf for leaf in leaves if not isinstance(leaf, UpstreamError | ResourceUnavailableError)]
    return (fatal or broken or leaves)[0]

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgserver_trio.errors import (
    AbsentError,
    BrokenError,
    CorruptError,
    NotFoundError,
    ResourceUnavailableError,
    SilentError,
    UpstreamError,
    UpstreamFailedError,
    UpstreamSilentError,
    most_telling,
    verdict,
)

ABSENT = AbsentError("a", "404")
SILENT = SilentError("s", "nothing for 5 s")
BROKEN = BrokenError("b", "500")
CORRUPT = CorruptError("c", "another tree")
DEFECT = ValueError("a defect")
CANCELLATION = KeyboardInterrupt()


@pytest.mark.parametrize(
    ("failures", "kind"),
    [
        ([], UpstreamFailedError),
        ([ABSENT], NotFoundError),
        ([ABSENT, ABSENT], NotFoundError),
        ([SILENT], UpstreamSilentError),
        ([SILENT, ABSENT], UpstreamSilentError),
        ([BROKEN], UpstreamFailedError),
        ([CORRUPT, ABSENT], UpstreamFailedError),
        ([SILENT, BROKEN, ABSENT], UpstreamFailedError),
    ],
)
def test_a_resource_is_not_found_only_if_all_say_so_and_silent_only_if_no_one_failed_otherwise(
    failures: list[UpstreamError], kind: type[ResourceUnavailableError]
) -> None:
    assert type(verdict("artifact/x", failures)) is kind


@given(st.permutations([ABSENT, SILENT, BROKEN, CORRUPT]), st.integers(0, 4))
def test_a_verdict_names_the_resource_and_what_each_server_did_and_knows_no_order(
    servers: list[UpstreamError], count: int
) -> None:
    failures = servers[:count]
    told = verdict("artifact/x", failures)
    assert told.failures == tuple(failures)
    assert "artifact/x" in str(told)
    assert all(str(failure) in str(told) for failure in failures)
    assert type(told) is type(verdict("artifact/x", failures[::-1]))


def test_without_servers_a_verdict_says_that_there_are_none() -> None:
    assert "no storage server is configured" in str(verdict("artifact/x", []))


def test_a_failure_names_its_server_and_its_reason() -> None:
    assert (str(BROKEN), BROKEN.server, BROKEN.reason) == ("b: 500", "b", "500")


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([BROKEN], BROKEN),
        ([BROKEN, DEFECT], DEFECT),
        ([DEFECT, NotFoundError("x")], DEFECT),
        ([BROKEN, DEFECT, CANCELLATION], CANCELLATION),
    ],
)
def test_of_several_errors_the_most_telling_one_is_told_however_they_are_nested(
    errors: list[BaseException], expected: BaseException
) -> None:
    nested: BaseException = BaseExceptionGroup("of one", errors[:1])
    for error in errors[1:]:
        nested = BaseExceptionGroup("of two", [nested, error])
    assert isinstance(nested, BaseExceptionGroup)
    assert most_telling(BaseExceptionGroup("flat", errors)) is expected
    assert most_telling(nested) is expected
    assert most_telling(BaseExceptionGroup("backwards", errors[::-1])) is expected

"""The soak's clients: what they take for complete, for broken, and for wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.fakes import Behaviour, FakeUpstream
from tests.soak.asks import Ask, Conduct
from tests.soak.catalogue import Catalogue, build_catalogue
from tests.soak.clients import Exchange, connect
from tests.soak.judge import Judge
from tests.soak.ledger import Ledger, Outcome
from tests.web.raw import RawClient

AS_IT_COMES = Conduct()


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return build_catalogue("seed", states=2)


@pytest.fixture
def ledger(catalogue: Catalogue) -> Ledger:
    return Ledger(Judge(catalogue))


async def outcome(ledger: Ledger, ask: Ask, behaviour: Behaviour, conduct: Conduct = AS_IT_COMES) -> Outcome:
    """Return what the ledger says of one exchange with a server that behaves like this."""
    async with (
        FakeUpstream(script=lambda _: behaviour) as upstream,
        await connect(upstream.port, narrow=True) as stream,
    ):
        exchange = Exchange(RawClient(stream), ask, conduct, ledger)
        await exchange.run()
        return ledger.note(ask, exchange.answer, left=exchange.left)


async def test_server_that_lies_fails_the_soak(ledger: Ledger, catalogue: Catalogue) -> None:
    one, other = catalogue.tarballs[:2]
    assert await outcome(ledger, Ask(path=one.path), one.answers[2]) is Outcome.RIGHT
    assert ledger.passed
    assert await outcome(ledger, Ask(path=one.path), other.answers[0]) is Outcome.WRONG
    assert not ledger.passed


async def test_chunked_answer_is_complete_with_its_last_chunk_only(ledger: Ledger, catalogue: Catalogue) -> None:
    ask, chunked = Ask(path=catalogue.tarballs[0].path), replace(catalogue.tarballs[0].answers[0], declared_length=None)
    assert await outcome(ledger, ask, chunked) is Outcome.RIGHT
    assert await outcome(ledger, ask, replace(chunked, close_at=len(chunked.body))) is Outcome.BROKEN
    assert ledger.passed


async def test_chunked_answer_leaves_nothing_before_the_next(ledger: Ledger, catalogue: Catalogue) -> None:
    ask, chunked = Ask(path=catalogue.tarballs[0].path), replace(catalogue.tarballs[0].answers[0], declared_length=None)
    async with FakeUpstream(script=lambda _: chunked) as upstream, await connect(upstream.port) as stream:
        client = RawClient(stream)
        for _ in range(2):
            exchange = Exchange(client, ask, AS_IT_COMES, ledger)
            await exchange.run()
            assert ledger.note(ask, exchange.answer) is Outcome.RIGHT
    assert ledger.passed


async def test_answer_that_ends_early_is_broken(ledger: Ledger, catalogue: Catalogue) -> None:
    ask, good = Ask(path=catalogue.tarballs[0].path), catalogue.tarballs[0].answers[0]
    for at in (-1, 0, len(good.body) - 1):
        assert await outcome(ledger, ask, replace(good, close_at=at)) is Outcome.BROKEN
        assert await outcome(ledger, ask, replace(good, reset_at=at)) is Outcome.BROKEN
    assert ledger.passed


async def test_client_that_leaves_is_no_fault_of_the_server(ledger: Ledger, catalogue: Catalogue) -> None:
    ask, good = Ask(path=catalogue.tarballs[0].path), catalogue.tarballs[0].answers[0]
    for after in (0, 1, len(good.body) - 1):
        assert await outcome(ledger, ask, good, Conduct(leaves_after=after)) is Outcome.LEFT
    assert await outcome(ledger, ask, good, Conduct(leaves_after=len(good.body))) is Outcome.RIGHT
    assert await outcome(ledger, ask, good, Conduct(pauses=(0, 0))) is Outcome.RIGHT

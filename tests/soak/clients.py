"""Clients on bare sockets, which read as fast as they like and leave when they like."""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import TYPE_CHECKING, Final

import trio
from tests.soak.judge import Answer
from tests.soak.ledger import Outcome
from tests.web.raw import Head, RawClient

if TYPE_CHECKING:
    from random import Random

    from tests.soak.asks import Ask, Conduct, Planner
    from tests.soak.ledger import Ledger
    from tests.soak.server import ServerProcess

#: When a Julia client gives up: this long without a byte.
_PATIENCE_SECONDS: Final = 20
_PIECE_BYTES: Final = 32 * 1024
_NARROW_BYTES: Final = 8 * 1024  # what the kernel takes for a client that reads slowly
_REQUESTS_PER_CONNECTION: Final = 20
_MEAN_PAUSE_SECONDS: Final = 0.1


class Body:
    """The body of one answer, piece by piece, as its framing says."""

    def __init__(self, client: RawClient, head: Head, method: str) -> None:
        self._client = client
        bodiless = method == "HEAD" or head.status in {204, 304}
        self._chunked = head.headers.get("transfer-encoding") == "chunked" and not bodiless
        # An answer that says neither would end with its connection: nobody could tell whether it is complete.
        self._left = 0 if bodiless or self._chunked else int(head.headers["content-length"])

    @property
    def ended(self) -> bool:
        """All of it was read: it is complete, even for a client that meant to leave."""
        return not (self._chunked or self._left)

    async def read(self, most: int) -> bytes:
        """Return some bytes, or none of the last chunk. Raises EOFError when the connection ends before."""
        chunked = self._chunked
        if chunked and not self._left:
            self._left = await self._next_chunk()
        # Asked for nothing, a RawClient forgets what it has received beyond that.
        piece = await self._client.exactly(min(most, self._left)) if self._left else b""
        self._left -= len(piece)
        if chunked and not self._left:
            await self._client.exactly(2)
        return piece

    async def _next_chunk(self) -> int:
        line = b""
        while not line.endswith(b"\r\n"):
            line += await self._client.exactly(1)
        size = int(line, 16)
        self._chunked = size > 0
        return size


@dataclass(slots=True)
class Client:
    """One of many; it asks until it is cancelled."""

    server: ServerProcess
    ledger: Ledger
    planner: Planner
    random: Random
    _pending: list[Ask] = field(default_factory=list)

    async def run(self) -> None:
        while True:
            await self.server.wait_until_serving()
            try:
                await self._visit()
            except OSError:
                await trio.sleep(0.1)  # between the end of the server and the news of it

    async def _visit(self) -> None:
        """Ask some things on one connection."""
        conduct = self.planner.next_conduct()
        async with await connect(self.server.port, narrow=bool(conduct.pauses)) as stream:
            client = RawClient(stream)
            for _ in range(self.random.randint(1, _REQUESTS_PER_CONNECTION)):
                ask = self._pending.pop() if self._pending else self.planner.next_ask()
                if await self.ask(client, ask, conduct) in {Outcome.BROKEN, Outcome.LEFT, Outcome.WRONG}:
                    return
                await trio.sleep(self.random.expovariate(1 / _MEAN_PAUSE_SECONDS))
                conduct = self.planner.next_conduct()

    async def ask(self, client: RawClient, ask: Ask, conduct: Conduct) -> Outcome:
        """Do one exchange, and enter it in the ledger."""
        floor = self.ledger.judge.newest(ask.path)
        exchange = Exchange(client, ask, conduct, self.ledger)
        try:
            await exchange.run()
        except (LookupError, ValueError) as error:
            return self.ledger.condemn(f"{ask}: no HTTP: {error!r}")
        answer = exchange.answer
        if answer is not None and ask.method == "GET" and "etag" in answer.headers:
            self._remember(ask, answer)
        return self.ledger.note(ask, answer, left=exchange.left, floor=floor)

    def _remember(self, ask: Ask, answer: Answer) -> None:
        etag = answer.headers["etag"]
        if answer.complete and answer.status == 200:
            self.planner.remember(ask.path, etag)
        elif answer.status == 200 and answer.body:
            self._pending.append(self.planner.resume(ask.path, answer.body, etag))


class Exchange:
    """One request and what came of it: in `answer` a head at least, if any came."""

    def __init__(self, client: RawClient, ask: Ask, conduct: Conduct, ledger: Ledger) -> None:
        self._client, self._ask, self._conduct, self._ledger = client, ask, conduct, ledger
        self.answer: Answer | None = None
        self.left = False

    async def run(self) -> None:
        """Ask, and receive as long as the client wants to. Raises LookupError, ValueError for what is no HTTP."""
        try:
            with trio.fail_after(_PATIENCE_SECONDS) as self._patience:  # begins anew with each piece
                await self._converse()
        except EOFError:
            return
        except trio.BrokenResourceError:
            return  # the server ended the connection before it was asked anything
        except trio.TooSlowError:
            self._ledger.defects.append(f"{self._ask}: silence of {_PATIENCE_SECONDS} s")

    async def _converse(self) -> None:
        ask = self._ask
        self._listen()
        await self._client.ask(ask.path, *(f"{key}: {word}" for key, word in ask.headers.items()), method=ask.method)
        if self._conduct.leaves_after == 0:
            self.left = True
            return
        head = await self._client.head()
        self._hear()
        await self._receive(head, Body(self._client, head, ask.method))

    async def _receive(self, head: Head, body: Body) -> None:
        received = bytearray()
        pauses = chain(self._conduct.pauses, repeat(0))
        try:
            while not body.ended:
                most = min(_PIECE_BYTES, self._wanted - len(received))
                if most == 0:
                    self.left = True
                    return
                await trio.sleep(next(pauses))
                self._listen()
                received += await body.read(most)
                self._hear()
        finally:
            self.answer = Answer(head.status, head.headers, bytes(received), body.ended)

    @property
    def _wanted(self) -> int:
        """After how many bytes the client leaves."""
        return sys.maxsize if self._conduct.leaves_after is None else self._conduct.leaves_after

    def _listen(self) -> None:
        """Begin to wait for the server, with new patience."""
        self._listens_since = trio.current_time()
        self._patience.deadline = self._listens_since + _PATIENCE_SECONDS

    def _hear(self) -> None:
        """Note that the server said something."""
        self._ledger.note_silence(trio.current_time() - self._listens_since)


async def connect(port: int, *, narrow: bool = False) -> trio.SocketStream:
    """Connect to a port of the loopback interface; ``narrow``: the kernel takes little that is not read."""
    connection = trio.socket.socket()
    try:
        if narrow:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _NARROW_BYTES)
        await connection.connect(("127.0.0.1", port))
    except BaseException:
        connection.close()
        raise
    return trio.SocketStream(connection)

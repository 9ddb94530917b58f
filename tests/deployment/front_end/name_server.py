"""A name server that knows what a test says."""

from __future__ import annotations

import struct
from contextlib import AsyncExitStack
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Self

import trio

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEAD_BYTES = 12
_ANSWER_FLAGS, _NO_SUCH_NAME = 0x8180, 3
#: The question's name by its place, type A, class IN, no time to live, four bytes.
_ADDRESS_RECORD = struct.pack(">HHHIH", 0xC000 | _HEAD_BYTES, 1, 1, 0, 4)


class NameServer:
    """Answers for `known`, IPv4 addresses by name, which may change at any time; `address` is where it is."""

    address: str

    def __init__(self, known: Mapping[str, str]) -> None:
        self.known = dict(known)

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        nursery = await self._stack.enter_async_context(trio.open_nursery())
        self._socket = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        self._stack.callback(self._socket.close)
        await self._socket.bind(("127.0.0.1", 0))
        self.address = "{}:{}".format(*self._socket.getsockname())
        nursery.start_soon(self._serve)
        self._stack.callback(nursery.cancel_scope.cancel)
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._stack.aclose()

    async def _serve(self) -> None:
        while True:
            query, peer = await self._socket.recvfrom(512)
            await self._socket.sendto(self._answer(query), peer)

    def _answer(self, query: bytes) -> bytes:
        """Return the answer to a query of one question (RFC 1035, section 4.1)."""
        end = query.index(b"\0", _HEAD_BYTES) + 5
        labels, at = [], _HEAD_BYTES
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii"))
            at += 1 + query[at]
        found = self.known.get(".".join(labels))
        flags = _ANSWER_FLAGS | (0 if found else _NO_SUCH_NAME)
        head = query[:2] + struct.pack(">HHHHH", flags, 1, 1 if found else 0, 0, 0)
        record = _ADDRESS_RECORD + IPv4Address(found).packed if found else b""
        return head + query[_HEAD_BYTES:end] + record

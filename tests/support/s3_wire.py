"""HTTP/1.1 as far as a proxy must understand it to pass it on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

#: Bytes passed on at once.
_PIECE = 1 << 16


class Message:
    """The head of a request or an answer, and where its body ends."""

    def __init__(self, head: bytes) -> None:
        self.head = head
        self._first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        self.headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        self.chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
        self.length = int(self.headers.get("content-length", 0))
        self.has_body = self.chunked or self.length > 0

    @property
    def method(self) -> str:
        return self._first.split(" ")[0]

    @property
    def target(self) -> str:
        return self._first.split(" ")[1]

    @property
    def status(self) -> int:
        return int(self._first.split(" ")[1])

    @property
    def waits(self) -> bool:
        """Whether its body is sent only when it is asked for."""
        return self.headers.get("expect", "").lower() == "100-continue"

    @property
    def last(self) -> bool:
        """Whether the connection ends after it."""
        return self.headers.get("connection", "").lower() == "close"


@dataclass(frozen=True)
class End:
    """A connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def message(self) -> Message | None:
        """Read the next head; None when there is none."""
        try:
            return Message(await self.reader.readuntil(b"\r\n\r\n"))
        except asyncio.IncompleteReadError:
            return None

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def pass_on(self, message: Message, source: End, *, half: bool) -> bool:
        """Send a message whose body comes from another end, or half of it; tell whether all."""
        await self.send(message.head)
        sent = 0
        async for piece in source.body(message):
            if half and sent + len(piece) > message.length // 2:
                await self.send(piece[: max(0, message.length // 2 - sent)])
                return False
            await self.send(piece)
            sent += len(piece)
        return not half

    async def body(self, message: Message) -> AsyncIterator[bytes]:
        """Read a body as it is sent, the marks of its chunks included."""
        if not message.has_body:
            return
        if not message.chunked:
            async for piece in self._exactly(message.length):
                yield piece
            return
        while True:
            mark = await self.reader.readuntil(b"\r\n")
            yield mark
            size = int(mark.partition(b";")[0], 16)
            async for piece in self._exactly(size + 2):
                yield piece
            if size == 0:
                return

    async def _exactly(self, length: int) -> AsyncIterator[bytes]:
        while length:
            piece = await self.reader.read(min(length, _PIECE))
            if not piece:
                raise EOFError
            length -= len(piece)
            yield piece

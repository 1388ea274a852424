"""A proxy before an S3 server: counts calls, slows them down, refuses them and cuts connections."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TypeVar
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import escape

from tests.support.s3 import S3Server
from tests.support.s3_faults import Call, Cut, Fault, Refusal, is_conditional_put
from tests.support.s3_wire import End, Message

#: Calls that are remembered.
_REMEMBERED = 100_000

_T = TypeVar("_T")


class S3Proxy:
    """Forwards calls to a server; what it does besides may be changed at any time."""

    def __init__(self, server: S3Server) -> None:
        self.server = server
        #: Seconds by which each call is late.
        self.latency = 0.0
        #: Whether objects are replaced although the caller forbids it, as by old servers.
        self.ignores_conditions = False
        self._lock = threading.Lock()
        self._calls: deque[Call] = deque(maxlen=_REMEMBERED)
        self._faults: list[Fault] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="s3-proxy", daemon=True)
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def endpoint(self) -> str:
        host, port = self._listener.sockets[0].getsockname()
        return f"http://{host}:{port}"

    @property
    def calls(self) -> list[Call]:
        """What was asked since the last :meth:`forget`, in order."""
        with self._lock:
            return list(self._calls)

    def round_trips(self) -> Counter[str]:
        """Count the calls by method."""
        return Counter(call.method for call in self.calls)

    def forget(self) -> None:
        """Count from here."""
        with self._lock:
            self._calls.clear()

    def inflict(
        self,
        deed: Refusal | Cut,
        *,
        only: Callable[[Call], bool] = lambda call: True,
        every: int = 1,
        times: int | None = None,
    ) -> None:
        """Refuse or cut calls.

        Args:
            deed: What is done to them.
            only: Which calls are meant.
            every: Spares all but each so-manieth of them.
            times: How often, until :meth:`heal` when it is not given.
        """
        with self._lock:
            self._faults.append(Fault(deed, only, every, times))

    def heal(self) -> None:
        """Forward everything again."""
        with self._lock:
            self._faults.clear()

    def cut(self) -> None:
        """End all connections, in the middle of whatever they carry."""

        self._run(self._end_connections())

    def _note(self, call: Call) -> Refusal | Cut | None:
        with self._lock:
            self._calls.append(call)
            struck = (fault.deed for fault in self._faults if fault.strikes(call))
            return next(struck, None)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        client = End(reader, writer)
        try:
            server = End(*await asyncio.open_connection("127.0.0.1", self.server.port))
            try:
                while (request := await client.message()) and (
                    await self._pass(request, client, server)
                ):
                    pass
            finally:
                server.writer.close()
        except (OSError, EOFError):
            pass  # one of the ends has gone
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._connections.discard(task)
            writer.close()

    async def _pass(self, request: Message, client: End, server: End) -> bool:
        """Pass one call on, and its answer back; tell whether another may follow."""
        call = _call(request)
        deed = self._note(call)
        await asyncio.sleep(self.latency)
        if deed is Cut.BEFORE:
            return False
        if isinstance(deed, Refusal):
            return await _refuse(deed, request, client)
        if self.ignores_conditions and is_conditional_put(call):
            self._make_way(call)
        if request.waits:
            await client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not await server.pass_on(request, client, half=deed is Cut.UPLOAD):
            return False
        while (answer := await server.message()) and answer.status == 100:
            pass
        if answer is None or deed is Cut.ANSWER:
            return False
        answer.has_body &= request.method != "HEAD" and answer.status not in (204, 304)
        whole = await client.pass_on(answer, server, half=deed is Cut.DOWNLOAD)
        return whole and not (request.last or answer.last)

    def _make_way(self, call: Call) -> None:
        # The condition is part of the signature, so the call can not be sent without it.
        bucket, _, key = call.path.lstrip("/").partition("/")
        assert bucket == self.server.bucket
        self.server.file(key).unlink(missing_ok=True)

    async def _end_connections(self) -> None:
        connections = [*self._connections]
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _end(self) -> None:
        self._listener.close()
        await self._end_connections()

    def _run(self, work: Coroutine[None, None, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def __enter__(self) -> S3Proxy:
        self._thread.start()
        self._listener = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _call(request: Message) -> Call:
    parts = urlsplit(request.target)
    return Call(
        method=request.method,
        path=unquote(parts.path),
        query=parts.query,
        headers=request.headers,
    )


async def _refuse(refusal: Refusal, request: Message, client: End) -> bool:
    if not request.waits:
        async for _ in client.body(request):
            pass
    elements = {"Code": refusal.code, "Message": f"{refusal.code}, by the proxy", **refusal.more}
    xml = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in elements.items())
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error>{xml}</Error>'.encode()
    # What a body that was not asked for would do to the next call, nobody can tell.
    headers = {"Connection": "close" if request.waits else "keep-alive", **refusal.headers}
    headers |= {"Content-Type": "application/xml", "Content-Length": str(len(body))}
    lines = (f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {refusal.status} {refusal.code}\r\n{''.join(lines)}\r\n".encode()
    await client.send(head if request.method == "HEAD" else head + body)
    return not (request.waits or request.last)

"""A client for an event loop: whoever waits lets the other tasks run."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from deltaq.client.async_future import AsyncFuture
from deltaq.client.backfill_future import AsyncBackfillFuture
from deltaq.client.future import BaseFuture
from deltaq.client.outbox import Outbox, Place, Script
from deltaq.client.pace import Pace
from deltaq.client.sender import Sender
from deltaq.client.wire import Flag, Queue, Turn
from deltaq.tasks.calls import (
    Submitted,
    cancellation,
    claims,
    look_at_claims,
    look_ups,
    looked_up,
    submission,
    submitted,
)
from deltaq.tasks.connection import connect, connection_options
from deltaq.tasks.errors import InvalidRequest, QueueUnavailable
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.query import Query
from deltaq.tasks.request import Lane, Request
from deltaq.tasks.status import TableStatus, read_status

if TYPE_CHECKING:  # pydantic takes 0.1 s to import: not before there are settings
    from deltaq.client.backfill_progress import BackfillProgress
    from deltaq.tasks.settings import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Threads that stage frames and read results. They wait for the disk; more of them would only
#: keep the loop waiting for the GIL.
_THREADS = 4
#: Connections on which a client hears: one for outcomes, one for each watch.
_SUBSCRIPTIONS = 64


class Looping:
    """The wire of a client for an event loop: the one in which it is first used.

    Args:
        settings: The settings.
        pace: Hears how busy the threads are.
    """

    def __init__(self, settings: Settings, pace: Pace) -> None:
        self._settings = settings
        # All that is sent goes through one connection.
        self._redis = _connect(settings, 1)
        self._hearing = _connect(settings, _SUBSCRIPTIONS)
        self._outbox = Outbox(self._redis)
        self._sender = Sender(settings)
        self.helpers = concurrent.futures.ThreadPoolExecutor(_THREADS, "deltaq-staging")
        self._pace = pace
        # Kombu blocks: one thread sends all wake-ups and queries.
        self._sending = concurrent.futures.ThreadPoolExecutor(1, "deltaq-sender")
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop."""
        self.check()
        assert self._loop is not None
        return self._loop

    def check(self) -> None:
        """Bind to the running loop, or make sure that it is the same."""
        running = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = running
        elif self._loop is not running:
            raise InvalidRequest(
                "the client is in use by another event loop: make one AsyncClient for each"
            )

    def future(
        self,
        request_id: str,
        table: str,
        operation: str,
        cancel: Callable[[], Coroutine[Any, Any, bool]] | None = None,
    ) -> BaseFuture[Any]:
        """Make a future."""
        return AsyncFuture(
            request_id=request_id,
            table=table,
            operation=operation,
            loop=self.loop,
            cancel=cancel,
        )

    def backfill_future(
        self,
        backfill_id: str,
        table: str,
        cancel: Callable[[], Coroutine[Any, Any, bool]],
        progress: Callable[[], Coroutine[Any, Any, BackfillProgress]],
    ) -> BaseFuture[Outcome]:
        """Make the future of a backfill."""
        return AsyncBackfillFuture(
            backfill_id=backfill_id, table=table, loop=self.loop, cancel=cancel, progress=progress
        )

    def flag(self) -> Flag:
        """Make a flag."""
        return _Event()

    def queue(self) -> Queue:
        """Make a queue."""
        return _Queue()

    def turn(self, request: Request, *, alone: bool) -> AbstractContextManager[Turn]:
        """Take a place in the line of the request's lane."""
        return self._outbox.place(request, alone=alone)

    async def first(self, turn: Turn) -> None:
        """Wait until a submission is the first of its lane."""
        await self._outbox.first(cast("Place", turn))

    async def submit(self, turn: Turn, request: Request, *, anew: bool = False) -> Submitted:
        """Submit a request, and have it rung for if need be; that is not waited for."""
        script = Script("submit", *submission(request, self._settings, anew=anew))

        def read(reply: Any) -> Submitted:
            answer = submitted(request, self._settings, reply)
            if answer.ring:
                self._sending.submit(self._ring, request.table, request.lane)
            return answer

        return await self._outbox.submit(cast("Place", turn), script, read)

    def _ring(self, table: str, lane: Lane) -> None:
        try:
            self._sender.ring(table, lane)
        except Exception:  # nobody waits for it; the sweeper will ring
            logger.exception("wake-up for table %s was not sent", table)

    async def cancel(self, request: Request, reason: Outcome) -> State | None:
        """Cancel a request."""
        script = Script("cancel", *cancellation(request, self._settings, reason))
        return await self._outbox.ask(
            [script], lambda replies: State(replies[0]) if replies[0] else None
        )

    async def outcomes(self, requests: Sequence[tuple[str, str]]) -> list[Outcome | State | None]:
        """Look up requests."""
        return await self._outbox.ask(look_ups(requests), partial(looked_up, requests))

    async def claimed(self, lanes: Sequence[tuple[str, Lane]]) -> list[int]:
        """Tell what workers have begun with."""
        return await self._outbox.ask(look_at_claims(lanes), claims)

    async def strings(self, keys: Sequence[str]) -> list[str | None]:
        """Read strings."""
        return await self._outbox.ask([("MGET", *keys)], lambda replies: list(replies[0]))

    async def ping(self) -> None:
        """Make sure that Redis answers."""
        await self._outbox.ask([("PING",)], bool)

    async def status(self) -> list[TableStatus]:
        """See what waits for each table; rare enough for a connection of its own."""
        return await self.work(self._read_status)

    def _read_status(self) -> list[TableStatus]:
        client = connect(self._settings, retries=0)
        with contextlib.closing(client):
            return read_status(client)

    async def pause(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    async def ask(self, query: Query) -> None:
        """Send a query."""
        await self._in(self._sending, partial(self._sender.ask, query))

    async def hint(self, backfill_id: str, parts: Sequence[int]) -> None:
        """Send hints."""
        await self._in(self._sending, partial(self._sender.prepare, backfill_id, parts))

    async def answer(self, future: BaseFuture[T], timeout: float | None) -> T:
        """Wait for a future."""
        assert isinstance(future, AsyncFuture)
        try:
            async with asyncio.timeout(timeout):
                return cast("T", await future)
        except TimeoutError:
            if future.done():
                return cast("T", future.result())
            raise future._timed_out(timeout, query=True) from None

    async def work(self, call: Callable[[], T], undo: Callable[[T], None] | None = None) -> T:
        """Do it in one of the threads."""
        with self._pace.job():
            return await self._in(self.helpers, call, undo)

    async def _in(
        self,
        threads: concurrent.futures.Executor,
        call: Callable[[], T],
        undo: Callable[[T], None] | None = None,
    ) -> T:
        try:
            job = threads.submit(call)
        except RuntimeError:
            raise InvalidRequest("the client is closed") from None
        try:
            return await asyncio.wrap_future(job)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():  # closing cancelled the job
                raise InvalidRequest("the client is closed") from None
            if undo is not None:
                job.add_done_callback(partial(_undo, undo))
            raise

    @asynccontextmanager
    async def subscribe(self, *channels: str) -> AsyncIterator[_Subscription]:
        """Listen to channels."""
        async with self._hearing.pubsub() as heard:
            await heard.subscribe(*channels)
            yield _Subscription(heard)

    def spawn(self, run: Callable[[], Coroutine[Any, Any, None]], name: str) -> asyncio.Task[None]:
        """Run a coroutine as a task."""
        return self.loop.create_task(run(), name=name)

    async def end(self, spawned: asyncio.Task[None], channel: str) -> None:
        """Cancel a task, and wait for it."""
        spawned.cancel()
        await asyncio.gather(spawned, return_exceptions=True)

    def drive(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop, for another thread."""
        try:
            job = asyncio.run_coroutine_threadsafe(coroutine, self._bound())
        except RuntimeError as exc:
            coroutine.close()
            raise QueueUnavailable(f"the client's event loop has ended: {exc}") from exc
        return job.result()

    def _bound(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise RuntimeError("it was never used")
        return self._loop

    async def close(self) -> None:
        """End threads and connections."""
        await self._outbox.close()
        self.helpers.shutdown(wait=False, cancel_futures=True)
        await self._in(self._sending, self._sender.close)  # behind the last wake-up
        self._sending.shutdown(wait=False)
        await self._redis.aclose()
        await self._hearing.aclose()


def _connect(settings: Settings, connections: int) -> redis.asyncio.Redis:
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        settings.queue_url,
        max_connections=connections,
        # Without retries, which would each take redis_timeout; the core tries again in time.
        retry=Retry(NoBackoff(), 0),
        **connection_options(settings),
    )
    return redis.asyncio.Redis.from_pool(pool)


class _Event:
    """A flag for an event loop."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.set = self._event.set
        self.clear = self._event.clear
        self.is_set = self._event.is_set

    async def wait(self, timeout: float) -> bool:
        if not self._event.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._event.wait()
        return self._event.is_set()


class _Queue:
    def __init__(self) -> None:
        self._items: asyncio.Queue[Any] = asyncio.Queue()
        self.put = self._items.put_nowait

    async def get(self, timeout: float) -> Any:
        try:
            async with asyncio.timeout(timeout):
                return await self._items.get()
        except TimeoutError:
            return None


class _Subscription:
    def __init__(self, heard: Any) -> None:
        self._heard = heard

    async def message(self, timeout: float) -> dict[str, Any] | None:
        found: dict[str, Any] | None = await self._heard.get_message(timeout=timeout)
        return found


def _undo(undo: Callable[[T], None], job: concurrent.futures.Future[T]) -> None:
    if not job.cancelled() and job.exception() is None:
        undo(job.result())

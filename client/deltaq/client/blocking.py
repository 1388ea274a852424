"""A client for threads: whoever waits blocks its own thread."""

from __future__ import annotations

import concurrent.futures
import contextlib
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import redis

from deltaq.client.backfill_future import BackfillFuture
from deltaq.client.future import BaseFuture, Future
from deltaq.client.sender import Sender
from deltaq.client.wire import Flag, Queue, Turn, finish
from deltaq.tasks.calls import Submitted
from deltaq.tasks.connection import connect, queue_errors
from deltaq.tasks.inbox import Inbox
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.query import Query
from deltaq.tasks.request import Lane, Request
from deltaq.tasks.status import TableStatus, read_status

if TYPE_CHECKING:  # pydantic takes 0.1 s to import: not before there are settings
    from deltaq.client.backfill_progress import BackfillProgress
    from deltaq.tasks.settings import Settings

T = TypeVar("T")

#: Threads that read results of queries, and ask again.
_HELPERS = 2
#: Seconds that closing waits for a thread, which a hung Redis may hold.
_CLOSE_SECONDS = 2.0


class Blocking:
    """The wire of a client for threads."""

    def __init__(self, settings: Settings) -> None:
        # Without retries, which would each take redis_timeout; the core tries again in time.
        self._redis = connect(settings, retries=0)
        self._inbox = Inbox(self._redis, settings)
        self._sender = Sender(settings)
        self.helpers = concurrent.futures.ThreadPoolExecutor(_HELPERS, "deltaq-helper")

    def future(
        self,
        request_id: str,
        table: str,
        operation: str,
        cancel: Callable[[], Coroutine[Any, Any, bool]] | None = None,
    ) -> BaseFuture[Any]:
        """Make a future."""
        return Future(
            request_id=request_id,
            table=table,
            operation=operation,
            cancel=None if cancel is None else _Finishing(cancel),
        )

    def backfill_future(
        self,
        backfill_id: str,
        table: str,
        cancel: Callable[[], Coroutine[Any, Any, bool]],
        progress: Callable[[], Coroutine[Any, Any, BackfillProgress]],
    ) -> BaseFuture[Outcome]:
        """Make the future of a backfill."""
        return BackfillFuture(
            backfill_id=backfill_id,
            table=table,
            cancel=_Finishing(cancel),
            progress=lambda: finish(progress()),
        )

    def flag(self) -> Flag:
        """Make a flag."""
        return _Event()

    def queue(self) -> Queue:
        """Make a queue."""
        return _Queue()

    def check(self) -> None:
        """Do nothing: every thread may use it."""

    def turn(self, request: Request, *, alone: bool) -> AbstractContextManager[Turn]:
        """Give a turn; each thread is in its own order by itself."""
        return nullcontext(_TURN)

    async def first(self, turn: Turn) -> None:
        """Do nothing."""

    async def submit(self, turn: Turn, request: Request, *, anew: bool = False) -> Submitted:
        """Submit a request, and ring if need be."""
        submitted = self._inbox.submit(request, anew=anew)
        if submitted.ring:
            self._sender.ring(request.table, request.lane)
        return submitted

    async def cancel(self, request: Request, reason: Outcome) -> State | None:
        """Cancel a request."""
        return self._inbox.cancel(request, reason=reason)

    async def outcomes(self, requests: Sequence[tuple[str, str]]) -> list[Outcome | State | None]:
        """Look up requests."""
        return self._inbox.outcomes(requests)

    async def claimed(self, lanes: Sequence[tuple[str, Lane]]) -> list[int]:
        """Tell what workers have begun with."""
        return self._inbox.claimed(lanes)

    async def strings(self, keys: Sequence[str]) -> list[str | None]:
        """Read strings."""
        with queue_errors():
            found: Any = self._redis.mget(keys)
        return list(found)

    async def ping(self) -> None:
        """Make sure that Redis answers."""
        self._inbox.ping()

    async def status(self) -> list[TableStatus]:
        """See what waits for each table."""
        return read_status(self._redis)

    async def pause(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    async def ask(self, query: Query) -> None:
        """Send a query."""
        self._sender.ask(query)

    async def hint(self, backfill_id: str, parts: Sequence[int]) -> None:
        """Send hints."""
        self._sender.prepare(backfill_id, parts)

    async def answer(self, future: BaseFuture[T], timeout: float | None) -> T:
        """Wait for a future."""
        assert isinstance(future, Future)
        result: T = future.result(timeout)
        return result

    async def work(self, call: Callable[[], T], undo: Callable[[T], None] | None = None) -> T:
        """Do it in this thread."""
        return call()

    @asynccontextmanager
    async def subscribe(self, *channels: str) -> AsyncIterator[_Subscription]:
        """Listen to channels."""
        with self._redis.pubsub() as heard:  # type: ignore[no-untyped-call]
            heard.subscribe(*channels)
            yield _Subscription(heard)

    def spawn(self, run: Callable[[], Coroutine[Any, Any, None]], name: str) -> threading.Thread:
        """Run a coroutine in a thread."""
        thread = threading.Thread(target=partial(_run, run), name=name, daemon=True)
        thread.start()
        return thread

    async def end(self, spawned: threading.Thread, channel: str) -> None:
        """Wait for a thread."""
        if spawned is not threading.current_thread():
            with contextlib.suppress(redis.exceptions.RedisError):
                self._redis.publish(channel, b"[]")  # wakes it
            spawned.join(_CLOSE_SECONDS)

    def drive(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in this thread."""
        return finish(coroutine)

    async def close(self) -> None:
        """End threads and connections."""
        self.helpers.shutdown(wait=False, cancel_futures=True)
        self._sender.close()
        self._redis.close()


class _Turn:
    #: When a thread is interrupted, nobody can tell.
    sent = 1


_TURN = _Turn()


class _Event:
    """A flag for threads."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.set = self._event.set
        self.clear = self._event.clear
        self.is_set = self._event.is_set

    async def wait(self, timeout: float) -> bool:
        return self._event.wait(timeout)


class _Queue:
    def __init__(self) -> None:
        self._items: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.put = self._items.put

    async def get(self, timeout: float) -> Any:
        try:
            return self._items.get(timeout=timeout)
        except queue.Empty:
            return None


class _Subscription:
    def __init__(self, heard: Any) -> None:
        self._heard = heard

    async def message(self, timeout: float) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._heard.get_message(timeout=timeout)
        return found


class _Finishing:
    """Runs a coroutine to its end: a partial in a third of the space."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        self._make = make

    def __call__(self) -> bool:
        return finish(self._make())


def _run(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return finish(make())

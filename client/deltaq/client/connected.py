"""What a client has with Redis and the workers: connections, patience, and queries."""

from __future__ import annotations

import time
import uuid
import weakref
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from deltaq.client.future import BaseFuture
from deltaq.client.listener import Listener
from deltaq.client.pending import Load, PendingQuery
from deltaq.client.wire import Wire
from deltaq.tasks.errors import InvalidRequest, QueueUnavailable
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.query import Query, query_name

if TYPE_CHECKING:  # pydantic takes 0.1 s to import: not before there are settings
    from deltaq.client.display import Display
    from deltaq.client.progress import Following
    from deltaq.tasks.settings import Settings

T = TypeVar("T")
F = TypeVar("F", bound=BaseFuture[Outcome])

#: Seconds between two tries at Redis: the first pause and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5


class Connected:
    """The part of a client that stages nothing: it is connected, asks and waits.

    Args:
        settings: The settings.
        wire: Makes what waits and talks.
    """

    def __init__(self, settings: Settings, wire: Callable[[Settings], Wire]) -> None:
        self.settings = settings
        self._make_wire = wire
        self.start()

    def start(self) -> None:
        """Take an identity and connections; a forked process does so again."""
        self.client_id = uuid.uuid4().hex
        self._wire = self._make_wire(self.settings)
        self._closing = self._wire.flag()
        self.listener = Listener(self._wire, self.client_id)
        # What listens keeps the listener alive, and the core as long as a future waits.
        weakref.finalize(self, self.listener.stop)

    @property
    def wire(self) -> Wire:
        """What waits and talks."""
        return self._wire

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return self._closing.is_set()

    @property
    def waiting(self) -> int:
        """How many futures wait."""
        return len(self.listener)

    async def disconnect(self) -> None:
        """End the threads and connections; waiting futures fail."""
        await self.listener.close()
        await self._wire.close()

    async def patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Try until ``Settings.redis_timeout`` is over; a call that hangs takes as long itself."""
        deadline = time.monotonic() + self.settings.redis_timeout
        await self.listener.subscribe(timeout=self.settings.redis_timeout)
        if self.closed:  # not later: Redis may have what was sent
            raise InvalidRequest("the client was closed meanwhile")
        pause = _FIRST_PAUSE
        while True:
            try:
                return await call()
            except QueueUnavailable:
                if time.monotonic() + pause > deadline:
                    raise
            await self._wire.pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def check_open(self) -> None:
        """Raise InvalidRequest if the client is closed."""
        self._wire.check()
        if self.closed:
            raise InvalidRequest("the client is closed")

    def follow(self, futures: Iterable[F], display: Display) -> Following[F]:
        """Count futures as they are done, and show the counts."""
        from deltaq.client.progress import Following  # nobody else needs it

        return Following(futures, self._wire, display)

    async def ask(self, query: Query, load: Load[T]) -> BaseFuture[T]:
        """Send a query.

        Args:
            query: The query.
            load: Makes the future's result from the answer, and cleans up once it is told.

        Raises:
            QueueUnavailable: Redis did not answer.
        """
        self.check_open()
        wire = self._wire
        future: BaseFuture[T] = wire.future(query.request_id, query.table, query_name(query))
        pending = PendingQuery(
            future, load=load, ask=lambda: wire.drive(wire.ask(query)), helpers=wire.helpers
        )
        self.listener.add(pending)
        try:
            await self.patiently(partial(wire.ask, query))
        except BaseException:
            self.listener.discard(future)
            raise
        return future

    def later(self, call: Callable[[], None]) -> None:
        """Call something on a thread that may wait, which the listening one may not.

        Raises:
            RuntimeError: The client has been closed.
        """
        self._wire.helpers.submit(call)

    async def answer(self, query: Query, load: Load[T], *, timeout: float | None) -> T:
        """Send a query and wait for its answer.

        Raises:
            ResultTimeout: There was none within ``timeout`` seconds; it is not waited for.
            QueueUnavailable: Redis did not answer.
        """
        future = await self.ask(query, load)
        try:
            return await self._wire.answer(future, timeout)
        finally:
            self.listener.discard(future)

    def discard(self, future: BaseFuture[Any]) -> None:
        """Stop waiting for the answer to a query."""
        self.listener.discard(future)

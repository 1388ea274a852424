"""How a client waits: the one thing that differs between threads and an event loop.

The core of a client is written once, as coroutines over a :class:`Wire`. In an event loop they
are awaited. Over a wire that blocks they never pause, and :func:`finish` runs them to the end.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from deltaq.client.future import BaseFuture
from deltaq.tasks.calls import Submitted
from deltaq.tasks.outcome import Outcome, State
from deltaq.tasks.query import Query
from deltaq.tasks.request import Lane, Request
from deltaq.tasks.status import TableStatus

if TYPE_CHECKING:  # nobody else needs it
    from deltaq.client.backfill_progress import BackfillProgress

T = TypeVar("T")


class Flag(Protocol):
    """Something that becomes true and may be waited for."""

    def set(self) -> None:
        """Make it true."""

    def clear(self) -> None:
        """Make it false."""

    def is_set(self) -> bool:
        """Tell whether it is true."""
        ...

    async def wait(self, timeout: float) -> bool:
        """Wait until it is true, at most ``timeout`` seconds; tell whether it is."""
        ...


class Queue(Protocol):
    """Things in the order in which they were put there, by whichever thread."""

    def put(self, item: Any) -> None:
        """Add one."""

    async def get(self, timeout: float) -> Any:
        """Take the first, waiting at most ``timeout`` seconds for it; None if there is none."""
        ...


class Turn(Protocol):
    """The place of one submission among those of its lane."""

    @property
    def sent(self) -> int:
        """How often it was sent: Redis may have the request if it was."""
        ...


class Heard(Protocol):
    """A subscription to a channel."""

    async def message(self, timeout: float) -> dict[str, Any] | None:
        """Wait for the next message, at most ``timeout`` seconds."""
        ...


class Wire(Protocol):
    """Connections to Redis and the broker, threads for files, and how to wait for all of them.

    All that speaks to Redis raises QueueUnavailable or QueueFull.
    """

    @property
    def helpers(self) -> concurrent.futures.Executor:
        """Threads for what neither a listener nor an event loop may wait for."""
        ...

    def future(
        self,
        request_id: str,
        table: str,
        operation: str,
        cancel: Callable[[], Coroutine[Any, Any, bool]] | None = None,
    ) -> BaseFuture[Any]:
        """Make the future of a request or query."""
        ...

    def backfill_future(
        self,
        backfill_id: str,
        table: str,
        cancel: Callable[[], Coroutine[Any, Any, bool]],
        progress: Callable[[], Coroutine[Any, Any, BackfillProgress]],
    ) -> BaseFuture[Outcome]:
        """Make the future of a backfill."""
        ...

    def flag(self) -> Flag:
        """Make a flag that is false."""
        ...

    def queue(self) -> Queue:
        """Make a queue."""
        ...

    def check(self) -> None:
        """Raise InvalidRequest if the caller cannot use this wire."""

    def turn(self, request: Request, *, alone: bool) -> AbstractContextManager[Turn]:
        """Take a place behind the submissions of the same lane that have begun earlier.

        With ``alone`` no later one is sent before this one is answered.
        """
        ...

    async def first(self, turn: Turn) -> None:
        """Wait until a submission is the first of its lane."""

    async def submit(self, turn: Turn, request: Request, *, anew: bool = False) -> Submitted:
        """Submit a request when its turn has come, and ring if need be."""
        ...

    async def cancel(self, request: Request, reason: Outcome) -> State | None:
        """Cancel a request; see :meth:`Inbox.cancel`."""
        ...

    async def outcomes(self, requests: Sequence[tuple[str, str]]) -> list[Outcome | State | None]:
        """Look up requests; see :meth:`Inbox.outcomes`."""
        ...

    async def claimed(self, lanes: Sequence[tuple[str, Lane]]) -> list[int]:
        """Tell the last sequence that workers have begun with in lanes of tables."""
        ...

    async def strings(self, keys: Sequence[str]) -> list[str | None]:
        """Read strings in Redis."""
        ...

    async def ping(self) -> None:
        """Make sure that Redis answers."""

    async def status(self) -> list[TableStatus]:
        """See what waits for each table."""
        ...

    async def pause(self, seconds: float) -> None:
        """Wait."""

    async def ask(self, query: Query) -> None:
        """Send a query to the workers."""

    async def hint(self, backfill_id: str, parts: Sequence[int]) -> None:
        """Tell workers that parts of a backfill may be prepared; that it fails is no error."""

    async def answer(self, future: BaseFuture[T], timeout: float | None) -> T:
        """Wait for a future; ResultTimeout after ``timeout`` seconds."""
        ...

    async def work(self, call: Callable[[], T], undo: Callable[[T], None] | None = None) -> T:
        """Do what takes time or touches files.

        If nobody waits any longer when it is done, ``undo`` gets its result.
        """
        ...

    def subscribe(self, *channels: str) -> AbstractAsyncContextManager[Heard]:
        """Listen to channels; each subscription made comes as a message, too."""
        ...

    def spawn(self, run: Callable[[], Coroutine[Any, Any, None]], name: str) -> object:
        """Run a coroutine beside the caller's."""
        ...

    async def end(self, spawned: Any, channel: str) -> None:
        """Wait for what was spawned and has been told to end; it may listen to ``channel``."""

    def drive(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine from a thread of the client's own, and wait for it."""
        ...

    async def close(self) -> None:
        """End threads and connections."""


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never pauses, because its wire blocks."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise AssertionError(f"{coroutine!r} paused over a wire that blocks")

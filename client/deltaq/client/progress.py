"""How far many requests are: counted, shown, and handed out as they are done."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from deltaq.client.async_future import AsyncFuture
from deltaq.client.display import Display
from deltaq.client.future import BaseFuture, Future
from deltaq.client.wire import Wire, finish
from deltaq.tasks.errors import QueueUnavailable, ResultTimeout
from deltaq.tasks.outcome import Outcome

F = TypeVar("F", bound=BaseFuture[Outcome])

#: Seconds between two looks at what workers have begun with; what is done is seen at once.
_LOOK_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How far many requests are.

    Attributes:
        queued: No worker has begun with them.
        committing: A worker has begun with them.
        committed: Their rows are in the table.
        failed: They failed, were cancelled or expired.
        rows: Rows that the committed ones brought.
        seconds: Since the first of them was made.
    """

    queued: int
    committing: int
    committed: int
    failed: int
    rows: int
    seconds: float

    @property
    def total(self) -> int:
        """All of them."""
        return self.queued + self.committing + self.done

    @property
    def done(self) -> int:
        """Those that are settled."""
        return self.committed + self.failed

    @property
    def rows_per_second(self) -> float:
        """Rows committed, by the time it took."""
        return self.rows / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """An estimate, from how long those took that are done; None before the first is."""
        return self.seconds / self.done * (self.total - self.done) if self.done else None

    def __str__(self) -> str:
        parts = [f"{self.done} of {self.total} done"]
        for what in ("queued", "committing", "committed", "failed"):
            if count := getattr(self, what):
                parts.append(f"{count} {what}")
        if self.rows:
            parts.append(f"{self.rows_per_second:,.0f} rows/s")
        if self.total > self.done and self.seconds_left is not None:
            parts.append(f"{self.seconds_left:.0f} s left")
        return ", ".join(parts)


class Following(Generic[F]):
    """Counts futures as they are done, and shows the counts.

    Args:
        futures: The futures.
        wire: How to wait for them, and to look at what workers do.
        display: Shows the counts.
    """

    def __init__(self, futures: Iterable[F], wire: Wire, display: Display) -> None:
        self._waiting = dict.fromkeys(futures)
        self._wire = wire
        self._display = display
        self._done = wire.queue()
        self._look_at = now = time.monotonic()
        self._began = min((future.made_at for future in self._waiting), default=now)
        self._followed_since = now
        self._committing = self._committed = self._failed = self._rows = 0
        for future in self._waiting:
            future.add_done_callback(self._done.put)

    def counts(self) -> Counts:
        """Count them."""
        committing = min(self._committing, len(self._waiting))
        return Counts(
            queued=len(self._waiting) - committing,
            committing=committing,
            committed=self._committed,
            failed=self._failed,
            rows=self._rows,
            seconds=time.monotonic() - self._began,
        )

    async def next(self, timeout: float | None = None) -> F | None:
        """Wait for the next one that is done, and return it; None when there is no other.

        Raises:
            ResultTimeout: There was none before ``timeout`` seconds since the beginning.
        """
        end = float("inf") if timeout is None else self._followed_since + timeout
        while self._waiting:
            until = min(self._look_at, end)
            future: F | None = await self._done.get(max(0.0, until - time.monotonic()))
            if future is not None:
                self._count(future)
                return future
            if time.monotonic() >= end:
                raise ResultTimeout(f"{self.counts()} within {timeout:g} s; the others go on")
            await self._look()
        return None

    def end(self) -> None:
        """Show the last counts."""
        for future in self._waiting:
            future.remove_done_callback(self._done.put)
        self._display.end(self.counts())

    def _count(self, future: F) -> None:
        del self._waiting[future]
        self._committing = max(0, self._committing - 1)
        if future.exception() is None:
            self._committed += 1
            self._rows += future.result().rows or 0
        else:
            self._failed += 1
        self._display.show(self.counts())

    async def _look(self) -> None:
        places = [(future.table, *future.place) for future in self._waiting if future.place]
        lanes = list({(table, lane) for table, lane, _ in places})
        try:
            claimed = dict(zip(lanes, await self._wire.claimed(lanes), strict=True))
        except QueueUnavailable:
            claimed = {}  # nobody can tell now; for the outcomes the listener goes on waiting
        self._committing = sum(n <= claimed.get((table, lane), 0) for table, lane, n in places)
        self._look_at = time.monotonic() + _LOOK_SECONDS
        self._display.show(self.counts())


class Progress:
    """The progress of requests. Made by ``client.progress()``; iterate it, or ``wait()``.

    Examples:
        >>> futures = [client.append("prices", frame) for _ in range(3)]
        >>> sum(future.result().inserted for future in client.progress(futures))
        6
    """

    def __init__(self, following: Following[Future[Outcome]]) -> None:
        self._following = following

    def __iter__(self) -> Iterator[Future[Outcome]]:
        """Yield each future once, as it is done."""
        return self._take(None)

    def wait(self, timeout: float | None = None) -> Counts:
        """Wait until all are done, and return the counts; an error of theirs is not raised.

        Args:
            timeout: Seconds since they are followed; None waits for ever.

        Raises:
            ResultTimeout: They were not within ``timeout`` seconds; the requests go on.

        Examples:
            >>> futures = [client.append("prices", frame) for _ in range(3)]
            >>> counts = client.progress(futures).wait(timeout=30)
            >>> counts.committed, counts.failed, counts.rows
            (3, 0, 6)
        """
        for _ in self._take(timeout):
            pass
        return self._following.counts()

    def _take(self, timeout: float | None) -> Iterator[Future[Outcome]]:
        try:
            while future := finish(self._following.next(timeout)):
                yield future
        finally:
            self._following.end()


class AsyncProgress:
    """The progress of requests. Made by ``client.progress()`` of AsyncClient.

    Examples:
        >>> futures = [await client.append("prices", frame) for _ in range(3)]
        >>> async for future in client.progress(futures):
        ...     print(future.result().inserted)
        2
        2
        2
    """

    def __init__(self, following: Following[AsyncFuture[Outcome]]) -> None:
        self._following = following

    def __aiter__(self) -> AsyncIterator[AsyncFuture[Outcome]]:
        """Yield each future once, as it is done."""
        return self._take(None)

    async def wait(self, timeout: float | None = None) -> Counts:
        """Wait until all are done, and return the counts; an error of theirs is not raised.

        Args:
            timeout: Seconds since they are followed; None waits for ever.

        Raises:
            ResultTimeout: They were not within ``timeout`` seconds; the requests go on.

        Examples:
            >>> futures = [await client.append("prices", frame) for _ in range(3)]
            >>> counts = await client.progress(futures).wait(timeout=30)
            >>> counts.committed, counts.failed, counts.rows
            (3, 0, 6)
        """
        async for _ in self._take(timeout):
            pass
        return self._following.counts()

    async def _take(self, timeout: float | None) -> AsyncIterator[AsyncFuture[Outcome]]:
        try:
            while future := await self._following.next(timeout):
                yield future
        finally:
            self._following.end()

"""The commits of tables as they happen, for threads and for event loops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from types import TracebackType
from typing import cast

from deltaq.client.async_core import AsyncCore
from deltaq.client.core import Core
from deltaq.client.drafts import Columns
from deltaq.client.following import Commit, Follower
from deltaq.client.wire import finish
from deltaq.tasks.errors import InvalidRequest, ResultTimeout


class Watch(Iterator[Commit]):
    """The commits of some tables, in the order of each table. Made by ``client.watch()``.

    Threads may share one: each commit goes to one of them. It holds a connection to Redis until
    it is closed.

    Args:
        follower: Finds the commits.
        timeout: Seconds without a commit after which iteration ends; None for never.
    """

    def __init__(self, follower: Follower, *, timeout: float | None) -> None:
        self._follower = follower
        self._timeout = timeout
        self._lock = threading.Lock()

    def next(self, timeout: float | None = None) -> Commit:
        """Wait for the next commit.

        Args:
            timeout: Seconds to wait; None waits for ever.

        Raises:
            ResultTimeout: There was none in time; the watch goes on.
            QueueUnavailable: Redis did not answer all the time; the watch goes on.
            VersionNotFound: The log was cleaned of the next commit; the message has the range
                of versions that it still has.
            InvalidRequest: The watch was closed.
        """
        with self._lock:
            commit = finish(self._follower.next(timeout))
        if commit is None:
            raise InvalidRequest("the watch is closed")
        return commit

    def __next__(self) -> Commit:
        """Wait for the next commit; end when there was none for ``timeout`` seconds.

        Raises:
            DeltaqError: As for :meth:`next`.
            ResultTimeout: No worker answered in time.
        """
        with self._lock:
            try:
                commit = finish(self._follower.next(self._timeout))
            except ResultTimeout:
                if not self._follower.quiet:
                    raise
                commit = None
        if commit is None:
            raise StopIteration
        return commit

    @property
    def next_versions(self) -> dict[str, int]:
        """By table, the version after the last one told: as ``from_version`` it goes on here."""
        return self._follower.next_versions

    def close(self) -> None:
        """End the watch; a thread that waits for a commit stops waiting."""
        self._follower.closed = True
        with self._lock:
            finish(self._follower.close())

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncWatch(AsyncIterator[Commit]):
    """:class:`Watch` for an event loop: ``async for``, in an ``async with`` block.

    What is followed from now on is followed from the beginning of the block, or from the first
    step without one.
    """

    def __init__(self, follower: Follower, *, timeout: float | None) -> None:
        self._follower = follower
        self._timeout = timeout
        self._lock = asyncio.Lock()

    async def next(self, timeout: float | None = None) -> Commit:
        """Wait for the next commit; see :meth:`Watch.next`."""
        async with self._lock:
            commit = await self._follower.next(timeout)
        if commit is None:
            raise InvalidRequest("the watch is closed")
        return commit

    async def __anext__(self) -> Commit:
        """Wait for the next commit; see :meth:`Watch.__next__`."""
        async with self._lock:
            try:
                commit = await self._follower.next(self._timeout)
            except ResultTimeout:
                if not self._follower.quiet:
                    raise
                commit = None
        if commit is None:
            raise StopAsyncIteration
        return commit

    @property
    def next_versions(self) -> dict[str, int]:
        """By table, the version after the last one told."""
        return self._follower.next_versions

    async def close(self) -> None:
        """End the watch; a task that waits for a commit stops waiting."""
        self._follower.closed = True
        async with self._lock:
            await self._follower.close()

    async def __aenter__(self) -> AsyncWatch:
        async with self._lock:
            await self._follower.begin(None)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


def open_watch(
    core: Core | AsyncCore,
    tables: Columns,
    *,
    from_version: int | Mapping[str, int] | None,
    poll: float,
    timeout: float | None,
    begin_within: float,
) -> Watch:
    """Begin to follow tables; over the core of an event loop it is an AsyncWatch."""
    if isinstance(core, AsyncCore):
        follower = Follower(core, tables, from_version=from_version, poll=poll)
        return cast("Watch", AsyncWatch(follower, timeout=timeout))
    follower = Follower(core.shared, tables, from_version=from_version, poll=poll)
    finish(follower.begin(begin_within))
    return Watch(follower, timeout=timeout)

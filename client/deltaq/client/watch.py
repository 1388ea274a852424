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
    it is closed: use it in a ``with`` block.

    Examples:
        >>> with client.watch("prices", from_version=0) as commits:
        ...     for commit in commits:
        ...         print(commit.version, commit.operation, commit.rows)
        ...         break  # or go on for ever
        0 append 2
    """

    # Not made by its users: what it is made of is no argument that help() should show.

    @classmethod
    def _of(cls, follower: Follower, *, timeout: float | None) -> Watch:
        watch = cls()
        watch._follower = follower
        watch._timeout = timeout
        watch._lock = threading.Lock()
        return watch

    _follower: Follower
    _timeout: float | None
    _lock: threading.Lock

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

        Examples:
            >>> commits = client.watch("prices", from_version=0)
            >>> commits.next(timeout=30).version
            0
            >>> commits.next_versions
            {'prices': 1}
            >>> commits.close()
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
        """End the watch; a thread that waits for a commit stops waiting.

        Examples:
            >>> commits = client.watch("prices", from_version=0)
            >>> commits.close()
            >>> list(commits)
            []
        """
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
    """The commits of some tables, for an event loop. Made by ``client.watch()`` of AsyncClient.

    Use it in an ``async with`` block. What is followed from now on is followed from the beginning
    of the block, or from the first step without one. It holds a connection to Redis until it is
    closed; of tasks that share one, each commit goes to one.

    Examples:
        >>> async with client.watch("prices", from_version=0) as commits:
        ...     async for commit in commits:
        ...         print(commit.version, commit.operation, commit.rows)
        ...         break  # or go on for ever
        0 append 2
    """

    @classmethod
    def _of(cls, follower: Follower, *, timeout: float | None) -> AsyncWatch:
        watch = cls()
        watch._follower = follower
        watch._timeout = timeout
        watch._lock = asyncio.Lock()
        return watch

    _follower: Follower
    _timeout: float | None
    _lock: asyncio.Lock

    async def next(self, timeout: float | None = None) -> Commit:
        """Wait for the next commit.

        Args:
            timeout: Seconds to wait; None waits for ever.

        Raises:
            ResultTimeout: There was none in time; the watch goes on.
            QueueUnavailable: Redis did not answer all the time; the watch goes on.
            VersionNotFound: The log was cleaned of the next commit; the message has the range
                of versions that it still has.
            InvalidRequest: The watch was closed.

        Examples:
            >>> async with client.watch("prices", from_version=0) as commits:
            ...     commit = await commits.next(timeout=30)
            >>> commit.version
            0
        """
        async with self._lock:
            commit = await self._follower.next(timeout)
        if commit is None:
            raise InvalidRequest("the watch is closed")
        return commit

    async def __anext__(self) -> Commit:
        """Wait for the next commit; end when there was none for ``timeout`` seconds.

        Raises:
            DeltaqError: As for :meth:`next`.
            ResultTimeout: No worker answered in time.
        """
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
        """By table, the version after the last one told: as ``from_version`` it goes on here."""
        return self._follower.next_versions

    async def close(self) -> None:
        """End the watch; a task that waits for a commit stops waiting.

        Examples:
            >>> commits = client.watch("prices", from_version=0)
            >>> await commits.close()
        """
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
        return cast("Watch", AsyncWatch._of(follower, timeout=timeout))
    follower = Follower(core.shared, tables, from_version=from_version, poll=poll)
    finish(follower.begin(begin_within))
    return Watch._of(follower, timeout=timeout)

"""What a program holds while a backfill is on its way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from deltaq.client.async_future import AsyncFuture
from deltaq.client.future import Future
from deltaq.tasks.outcome import Outcome

if TYPE_CHECKING:  # nobody else needs it
    from deltaq.client.backfill_progress import BackfillProgress

_OPERATION = "backfill"


class BackfillFuture(Future[Outcome]):
    """The future of a backfill. Made by ``client.backfill()`` and ``client.resume_backfill()``.

    Its result is the :class:`Outcome` of the one commit that brings all rows. The backfill goes
    on without the program that began it; :meth:`cancel` stops it as long as parts are prepared.

    Attributes:
        request_id: The backfill's id.
        table: The table that is loaded.
        operation: ``backfill``.

    Examples:
        >>> future = client.backfill("loads", frame, sort_by=["symbol"])
        >>> future.result(timeout=30).rows
        2
    """

    def __init__(
        self,
        *,
        backfill_id: str,
        table: str,
        cancel: Callable[[], bool],
        progress: Callable[[], BackfillProgress],
    ) -> None:
        super().__init__(request_id=backfill_id, table=table, operation=_OPERATION, cancel=cancel)
        self._look = progress

    def progress(self) -> BackfillProgress:
        """Look how far it is: parts, rows, MB/s, the time left, stragglers.

        Raises:
            StagedDataMissing: It ended long ago, and is forgotten.
            StorageUnavailable: The staging area cannot be read.

        Examples:
            >>> future = client.backfill("loads", frame)
            >>> outcome = future.result(timeout=30)
            >>> progress = future.progress()
            >>> progress.prepared, progress.parts, progress.rows
            (1, 1, 2)
        """
        return self._look()


class AsyncBackfillFuture(AsyncFuture[Outcome]):
    """The future of a backfill. Made by the methods of an AsyncClient; await it for the outcome.

    Attributes:
        request_id: The backfill's id.
        table: The table that is loaded.
        operation: ``backfill``.

    Examples:
        >>> future = await client.backfill("loads", frame)
        >>> outcome = await future
        >>> outcome.rows
        2
    """

    def __init__(
        self,
        *,
        backfill_id: str,
        table: str,
        loop: asyncio.AbstractEventLoop,
        cancel: Callable[[], Coroutine[Any, Any, bool]],
        progress: Callable[[], Coroutine[Any, Any, BackfillProgress]],
    ) -> None:
        super().__init__(
            request_id=backfill_id, table=table, operation=_OPERATION, loop=loop, cancel=cancel
        )
        self._look = progress

    async def progress(self) -> BackfillProgress:
        """Look how far it is: parts, rows, MB/s, the time left, stragglers.

        Raises:
            StagedDataMissing: It ended long ago, and is forgotten.
            StorageUnavailable: The staging area cannot be read.

        Examples:
            >>> future = await client.backfill("loads", frame)
            >>> outcome = await future
            >>> progress = await future.progress()
            >>> progress.prepared, progress.parts, progress.rows
            (1, 1, 2)
        """
        return await self._look()

"""The rows of a table as a stream, larger than memory if need be."""

from __future__ import annotations

import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import nullcontext
from functools import partial
from types import TracebackType
from typing import cast

import pyarrow as pa

from deltaq.client.asking import After, ask_after
from deltaq.client.async_core import AsyncCore
from deltaq.client.core import Core
from deltaq.client.future import Future
from deltaq.client.results import read_part
from deltaq.tasks.errors import InvalidRequest, ResultTimeout, StagedDataMissing
from deltaq.tasks.location import Location
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.query import Scan as ScanQuery
from deltaq.tasks.scan_folder import ScanFolder

#: Seconds between two looks for the next part: at first, and at most.
_FIRST_LOOK, _LONGEST_LOOK = 0.002, 0.05


class Scan(Iterator[pa.RecordBatch]):
    """The record batches of a scan. Made by ``client.scan()``; to be used by one thread.

    The worker reads while the program does, a few parts ahead. Each part is removed once its
    batches were taken, and all that is left when the scan is closed, is collected as garbage, or
    nobody takes anything for ``read_ttl``. Use it in a ``with`` block, or to its end.

    Examples:
        >>> with client.scan("prices", where="price > 100") as batches:
        ...     for batch in batches:
        ...         print(batch.num_rows, batch.schema.names)
        1 ['symbol', 'price']
    """

    # Not made by its users: what it is made of is no argument that help() should show.

    @classmethod
    def _of(cls, future: Future[Outcome], folder: Location, *, timeout: float | None) -> Scan:
        """Make the scan whose parts appear in a folder until the future is done."""
        scan = cls()
        scan._future = future
        scan._folder = ScanFolder(folder)
        scan._timeout = timeout
        scan._next_part = 0
        scan._batches = []
        scan._schema = None
        scan._finish = weakref.finalize(scan, _give_up, future, scan._folder)
        return scan

    _future: Future[Outcome]
    _folder: ScanFolder
    _timeout: float | None
    _next_part: int
    _batches: list[pa.RecordBatch]
    _schema: pa.Schema | None
    _finish: weakref.finalize[..., Scan]

    def __next__(self) -> pa.RecordBatch:
        """Take the next batch.

        Raises:
            TableNotFound, VersionNotFound, InvalidExpression, SchemaMismatch: Of the query.
            TransientError: The worker ended, or has too many scans; begin again.
            ResultTimeout: No rows came in time; taking again goes on waiting.
        """
        while not self._batches:
            if not self._finish.alive:
                raise StopIteration
            part = self._read_part()
            if part is None:
                self.close()
                raise StopIteration
            self._batches = [b for b in part.to_batches() if b.num_rows][::-1]
        return self._batches.pop()

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns; it waits until the first rows are there.

        Raises:
            DeltaqError: As for taking the first batch.
            InvalidRequest: The scan was closed before its first rows came.
        """
        if self._schema is None:
            if not self._finish.alive:
                raise InvalidRequest("the scan was closed before its first rows came")
            part = self._read_part()
            assert part is not None, "a result has at least one part"
            self._batches = [b for b in part.to_batches() if b.num_rows][::-1]
        assert self._schema is not None
        return self._schema

    @property
    def outcome(self) -> Outcome | None:
        """Version, rows and engine, once the worker has written the last part."""
        return self._future.result() if self._future.done() else None

    def reader(self) -> pa.RecordBatchReader:
        """Offer the batches as what pyarrow, polars, DuckDB and ``client.append`` take.

        Raises:
            DeltaqError: As for taking the first batch.

        Examples:
            >>> future = client.append("copy", client.scan("prices").reader())
            >>> future.result(timeout=30).rows
            2
        """
        return pa.RecordBatchReader.from_batches(self.schema, self)

    def close(self) -> None:
        """Give up what was not taken; its files are removed and the worker stops.

        Examples:
            >>> batches = client.scan("prices")
            >>> batches.close()
            >>> list(batches)
            []
        """
        self._batches = []
        self._finish()

    def __enter__(self) -> Scan:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _read_part(self) -> pa.Table | None:
        """Take the next part from the folder; None after the last one."""
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        pause = _FIRST_LOOK
        while True:
            # In this order: the parts were there before the outcome.
            outcome = self._future.result() if self._future.done() else None
            if file := self._folder.part(self._next_part):
                return self._take(file)
            if outcome is not None:
                if self._next_part >= outcome.value["parts"]:
                    return None
                raise StagedDataMissing(
                    f"{self._folder.path}: a part of the scan's result is gone; scan again",
                    request_id=outcome.request_id,
                    table=outcome.table,
                )
            if deadline is not None and time.monotonic() > deadline:
                raise ResultTimeout(
                    f"no rows of scan {self._future.request_id} of table {self._future.table} "
                    f"within {self._timeout:g} s: does a worker run that serves reads?",
                    request_id=self._future.request_id,
                    table=self._future.table,
                )
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_LOOK)

    def _take(self, file: Location) -> pa.Table:
        part = read_part(file).replace_schema_metadata(None)
        file.unlink(missing_ok=True)
        self._next_part += 1
        self._schema = self._schema or part.schema
        return part


class AsyncScan(AsyncIterator[pa.RecordBatch]):
    """The record batches of a scan, for an event loop. Made by ``client.scan()`` of AsyncClient.

    Use it in an ``async with`` block, or to its end. The worker begins at the first step, and
    reads a few parts ahead; here parts are read in threads. Each is removed once its batches were
    taken, and all that is left when the scan is closed.

    Examples:
        >>> async with client.scan("prices", where="price > 100") as batches:
        ...     async for batch in batches:
        ...         print(batch.num_rows, batch.schema.names)
        1 ['symbol', 'price']
    """

    @classmethod
    def _of(
        cls, core: AsyncCore, query: ScanQuery, after: After | None, *, timeout: float | None
    ) -> AsyncScan:
        """Make a scan that is asked for at the first step."""
        scan = cls()
        scan._core = core
        scan._query = query
        scan._after = after
        scan._timeout = timeout
        scan._scan = None
        return scan

    _core: AsyncCore
    _query: ScanQuery
    _after: After | None
    _timeout: float | None
    _scan: Scan | None

    async def __anext__(self) -> pa.RecordBatch:
        """Take the next batch.

        Raises:
            TableNotFound, VersionNotFound, InvalidExpression, SchemaMismatch: Of the query.
            TransientError: The worker ended, or has too many scans; begin again.
            ResultTimeout: No rows came in time; taking again goes on waiting.
        """
        if self._scan is None:
            future = await cast(
                "Awaitable[Future[Outcome]]",
                ask_after(self._core, self._query, nullcontext, self._after),
            )
            folder = self._core.staging.read_path(self._query.request_id)
            self._scan = Scan._of(future, folder, timeout=self._timeout)
        batch = await self._core.wire.work(partial(next, self._scan, None))
        if batch is None:
            raise StopAsyncIteration
        return batch

    async def close(self) -> None:
        """Give up what was not taken; its files are removed and the worker stops.

        Examples:
            >>> batches = client.scan("prices")
            >>> first = await anext(batches)
            >>> await batches.close()
        """
        if self._scan is not None:
            await self._core.wire.work(self._scan.close)

    async def __aenter__(self) -> AsyncScan:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


def open_scan(
    core: Core | AsyncCore, query: ScanQuery, after: After | None, *, timeout: float | None
) -> Scan:
    """Ask for a scan; over the core of an event loop it is an AsyncScan."""
    if isinstance(core, AsyncCore):
        return cast("Scan", AsyncScan._of(core, query, after, timeout=timeout))
    future = ask_after(core, query, nullcontext, after)
    return Scan._of(future, core.staging.read_path(query.request_id), timeout=timeout)


def _give_up(future: Future[Outcome], folder: ScanFolder) -> None:
    folder.give_up(is_done=future.done())

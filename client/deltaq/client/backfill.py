"""How a client loads much: workers prepare the files side by side, one commit takes them all."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from deltaq.client.async_core import AsyncCore
from deltaq.client.backfill_future import BackfillFuture
from deltaq.client.core import Core
from deltaq.client.drafts import Columns, table_name
from deltaq.client.schemas import TableSchema
from deltaq.client.wire import finish
from deltaq.tasks.names import check_request_id
from deltaq.tasks.request import EngineName, LoadMode, SchemaMode

if TYPE_CHECKING:  # what reads files takes a while to import: not before it is needed
    from deltaq.client.backfill_orders import Sources
    from deltaq.client.backfill_progress import BackfillProgress
    from deltaq.tasks.manifest import Csv

T = TypeVar("T")


class Backfills:
    """Methods for loads of years of history, beside live writes."""

    _core: Core

    def backfill(
        self,
        table: str,
        sources: Sources,
        *,
        mode: LoadMode = "append",
        partition_by: Columns | None = None,
        sort_by: Columns | None = None,
        schema: TableSchema | None = None,
        schema_mode: SchemaMode | None = None,
        parts: int | None = None,
        upload: bool = False,
        csv: Csv | None = None,
        engine: EngineName | None = None,
        request_id: str | None = None,
    ) -> BackfillFuture:
        """Load files or frames into a table: by all workers, in one commit, all or nothing.

        When this returns, everything is checked that can be without reading all rows, and the
        backfill goes on without this program. Workers then prepare parts of it side by side; the
        table changes once, when all are prepared. Live writes go first.

        Args:
            table: Name under the lake's root; the table is created if need be.
            sources: A path, a glob or a folder of Parquet, CSV or JSON lines, or a list of them:
                files that workers see under the same path, below a folder that their setting
                ``backfill_sources`` names. Folders are read to their bottom; their names give
                columns, as in ``day=2024-05-31/``. Or a frame, or an iterable of frames, which
                are uploaded as they come.
            mode: ``append``; ``overwrite``: replace all rows; ``replace_partitions``: replace those
                partitions that the sources have rows of.
            partition_by: Columns that partition the table when this creates it.
            sort_by: Order of the rows within each file, so that reads skip more.
            schema: Columns as for :meth:`create`. By default those of the Parquet files and the
                table; types in CSV and JSON lines that a table does not tell are guessed from samples.
            schema_mode: ``merge``: files may lack columns and have narrower types than others, and
                columns that the table lacks are added to it.
            parts: About how many parts to cut the sources into; by default by their size.
            upload: The sources are files that only this machine sees, or that workers may not
                load: they are copied.
            csv: How CSV is written: delimiter, what stands for null, values that go over lines.
            engine: ``native`` or ``spark``, to insist on one; by default the worker chooses.
            request_id: Identity of the backfill; the same once more joins the first.

        Returns:
            The :class:`BackfillFuture`; its result is the :class:`Outcome`.

        Raises:
            InvalidRequest: A source is not there, matches nothing or tells no format, or the
                sources have no rows. By the future: workers may not load from there.
            InvalidFrame: A file is damaged, or has columns that no Delta table can hold; it is
                named. By the future: the same of what is found in its rows.
            SchemaMismatch: Columns differ between files, or from the table, or one of
                ``partition_by`` or ``sort_by`` is missing; it is named, and so is the file.
            RequestIdConflict: The id is that of another backfill.
            StagingFull: There is no room for an upload; nothing is left behind.
            QueueUnavailable: Redis did not answer; nothing is left behind.
            ResultTimeout: No worker told in time what the table's columns are; with ``schema``
                none is asked.

        Examples:
            >>> future = client.backfill("history", frame, partition_by=["symbol"])
            >>> outcome = future.result(timeout=30)
            >>> outcome.version, outcome.rows
            (0, 2)
        """
        from deltaq.client.backfill_orders import order_of
        from deltaq.client.backfill_run import begin

        order = order_of(
            table=table,
            backfill_id=request_id,
            mode=mode,
            partition_by=partition_by,
            sort_by=sort_by,
            schema=schema,
            schema_mode=schema_mode,
            parts=parts,
            engine=engine,
            csv=csv,
        )
        run = partial(begin, order=order, sources=sources, upload=upload)
        return cast("BackfillFuture", _over(self._core, run))

    def backfills(self, table: str | None = None) -> list[BackfillProgress]:
        """List the backfills that run, and those that ended lately, oldest first.

        They are read from the staging area; Redis need not run.

        Args:
            table: Only those of this table.

        Examples:
            >>> future = client.backfill("history", frame, request_id="history-2024")
            >>> outcome = future.result(timeout=30)
            >>> "history-2024" in [found.backfill_id for found in client.backfills("history")]
            True
        """
        from deltaq.client.backfill_run import list_all

        chosen = None if table is None else table_name(table)
        return _over(self._core, partial(list_all, table=chosen))

    def backfill_progress(self, backfill_id: str) -> BackfillProgress:
        """Look how far a backfill is, of any client.

        Args:
            backfill_id: Its id.

        Raises:
            InvalidRequest: There is no such backfill.

        Examples:
            >>> future = client.backfill("history", frame)
            >>> outcome = future.result(timeout=30)
            >>> progress = client.backfill_progress(future.request_id)
            >>> progress.prepared, progress.parts
            (1, 1)
        """
        from deltaq.client.backfill_run import progress_of

        return _over(self._core, partial(progress_of, backfill_id=check_request_id(backfill_id)))

    def resume_backfill(self, backfill_id: str) -> BackfillFuture:
        """Go on with a backfill that failed or was cancelled, and follow one that runs.

        What is prepared already is not prepared again. A failure removes what was prepared.

        Args:
            backfill_id: Its id.

        Returns:
            Its :class:`BackfillFuture`.

        Raises:
            InvalidRequest: There is no such backfill.
            ResultTimeout: No worker has cleaned up after the failure in time.

        Examples:
            >>> future = client.backfill("history", frame, request_id="history-2023")
            >>> future = client.resume_backfill("history-2023")
            >>> future.result(timeout=30).rows
            2
        """
        from deltaq.client.backfill_run import resume

        run = partial(resume, backfill_id=check_request_id(backfill_id))
        return cast("BackfillFuture", _over(self._core, run))

    def cancel_backfill(self, backfill_id: str) -> bool:
        """Stop a backfill, of any client, as long as parts are prepared. The table is as before.

        Workers remove what was prepared.

        Args:
            backfill_id: Its id.

        Returns:
            True if it is certain that the table does not and will not have its rows; its future
            raises ``RequestCancelled``. False if all parts are prepared, or it failed.

        Raises:
            InvalidRequest: There is no such backfill.

        Examples:
            >>> future = client.backfill("history", frame)
            >>> outcome = future.result(timeout=30)
            >>> client.cancel_backfill(future.request_id)  # too late
            False
        """
        from deltaq.client.backfill_run import cancel

        return _over(self._core, partial(cancel, backfill_id=check_request_id(backfill_id)))


def _over(core: Core | AsyncCore, run: Callable[[AsyncCore], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine; over the core of an event loop it is left to the caller to await it."""
    if isinstance(core, AsyncCore):
        return cast("T", run(core))
    return finish(run(core.shared))

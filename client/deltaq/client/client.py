"""The client for programs with threads, or with none. One method for each operation."""

from __future__ import annotations

from datetime import datetime
from types import TracebackType
from typing import Any, Literal

import pyarrow as pa

from deltaq.client.core import Core
from deltaq.client.drafts import (
    Columns,
    check_merge,
    column_names,
    count,
    draft,
    expression,
    names_or_none,
    optional,
    read_query,
    table_name,
)
from deltaq.client.frames import Frame
from deltaq.client.future import Future
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.query import Detail, Exists, History, ListTables
from deltaq.tasks.request import (
    Append,
    Delete,
    EngineName,
    Lane,
    Merge,
    Overwrite,
    check_request_id,
    new_request_id,
)
from deltaq.tasks.settings import Settings, load_settings

LaneName = Lane | Literal["live", "bulk", "maintenance"]

#: Seconds that calls which return no future wait for their answer.
_TIMEOUT = 60.0


class Client:
    """Hands requests to deltaq's workers. Threads may share one; close it when done.

    The writing methods return at once: then the rows are staged and the request is queued,
    both durable, and the table has not changed yet. The future's result is the
    :class:`Outcome`, its exception the typed error. All of them take:

    - ``request_id``: identity of the request, made here unless given. The same id again, with
      the same operation, options and rows, gives what came of the first; it is never applied
      twice.
    - ``lane``: ``live``, ``bulk`` or ``maintenance``; order holds within a lane of a table.
    - ``engine``: ``native`` or ``spark``, to insist on one; by default the worker chooses.

    and raise, besides what they name:

    - ``InvalidTableName``, ``InvalidRequest``, ``InvalidExpression``: an argument is wrong;
    - ``InvalidFrame``: columns or values that no Delta table can hold;
    - ``RequestIdConflict``: the id was used with other content;
    - ``QueueFull``: the lane takes no more now; nothing is left behind;
    - ``QueueUnavailable``: Redis did not answer within ``Settings.redis_timeout`` seconds;
      the staged file is kept and named in the error;
    - ``StorageUnavailable``: the staging area cannot be written.

    A forked process may go on using a client: it connects anew. Futures stay with the process
    that made them.

    Args:
        settings: The settings; by default read from deltaq.toml and the environment.
        arguments: Single settings that go before all others, such as ``lake="./lake"``.

    Raises:
        ConfigurationError: A setting is missing, unknown or impossible.
    """

    def __init__(self, settings: Settings | None = None, **arguments: Any) -> None:
        if settings is None or arguments:
            given = settings.model_dump(exclude_unset=True) if settings else {}
            settings = load_settings(**{**given, **arguments})
        self._core = Core(settings)

    @property
    def settings(self) -> Settings:
        """The settings in effect."""
        return self._core.settings

    def append(
        self,
        table: str,
        frame: Frame,
        *,
        partition_by: Columns | None = None,
        request_id: str | None = None,
        lane: LaneName = "live",
        engine: EngineName | None = None,
    ) -> Future[Outcome]:
        """Append the rows of a frame to a table, which is created if need be.

        Args:
            table: Name under the lake's root.
            frame: Rows to add; columns match by name, in any order.
            partition_by: Columns that partition the table when this creates it.
            request_id: See the class.
            lane: See the class.
            engine: See the class.

        Raises:
            SchemaMismatch: A column to partition by is not in the frame.
        """
        request = draft(
            Append,
            client_id=self._core.client_id,
            table=table,
            request_id=request_id,
            lane=lane,
            engine=engine,
            partition_by=optional(column_names, partition_by, "partition_by"),
        )
        return self._core.write(request, frame)

    def overwrite(
        self,
        table: str,
        frame: Frame,
        *,
        where: str | None = None,
        partition_by: Columns | None = None,
        request_id: str | None = None,
        lane: LaneName = "live",
        engine: EngineName | None = None,
    ) -> Future[Outcome]:
        """Replace all rows of a table, or those that satisfy a condition, by a frame's.

        Args:
            table: Name under the lake's root; the table is created if need be.
            frame: The new rows. With ``where`` each of them must satisfy it.
            where: SQL condition on the rows to replace, such as ``"day = '2024-05-31'"``.
            partition_by: Columns that partition the table when this creates it.
            request_id: See the class.
            lane: See the class.
            engine: See the class.

        Raises:
            SchemaMismatch: A column to partition by is not in the frame.
        """
        request = draft(
            Overwrite,
            client_id=self._core.client_id,
            table=table,
            request_id=request_id,
            lane=lane,
            engine=engine,
            where=optional(expression, where, "where"),
            partition_by=optional(column_names, partition_by, "partition_by"),
        )
        return self._core.write(request, frame)

    def merge(
        self,
        table: str,
        frame: Frame,
        *,
        keys: Columns,
        update: Columns | None = None,
        insert: bool = True,
        delete_when: str | None = None,
        partition_by: Columns | None = None,
        request_id: str | None = None,
        lane: LaneName = "live",
        engine: EngineName | None = None,
    ) -> Future[Outcome]:
        """Update the rows of a table whose keys match a frame's, and insert the others.

        Args:
            table: Name under the lake's root; the table is created if need be.
            frame: At most one row for each combination of keys.
            keys: Columns that identify a row. A null matches nothing, as in SQL.
            update: Columns to update in matched rows; all by default, ``[]`` for none.
            insert: Insert the rows that match nothing.
            delete_when: SQL condition over the frame's columns, such as ``"op = 'D'"``: the
                rows matched by such a row are deleted, and it is never inserted.
            partition_by: Columns that partition the table when this creates it.
            request_id: See the class.
            lane: See the class.
            engine: See the class.

        Raises:
            SchemaMismatch: A key or another named column is not in the frame.
            DuplicateKeys: By the future: two rows have the same keys.
        """
        names = optional(names_or_none, update, "update")
        check_merge(names, insert, delete_when)
        request = draft(
            Merge,
            client_id=self._core.client_id,
            table=table,
            request_id=request_id,
            lane=lane,
            engine=engine,
            keys=column_names(keys, "keys"),
            update=names,
            insert=insert,
            delete_when=optional(expression, delete_when, "delete_when"),
            partition_by=optional(column_names, partition_by, "partition_by"),
        )
        return self._core.write(request, frame)

    def delete(
        self,
        table: str,
        *,
        where: str,
        request_id: str | None = None,
        lane: LaneName = "live",
        engine: EngineName | None = None,
    ) -> Future[Outcome]:
        """Delete the rows of a table that satisfy a condition.

        Args:
            table: Name under the lake's root.
            where: SQL condition, such as ``"ts < '2024-01-01'"``; ``"true"`` for all rows.
            request_id: See the class.
            lane: See the class.
            engine: See the class.
        """
        request = draft(
            Delete,
            client_id=self._core.client_id,
            table=table,
            request_id=request_id,
            lane=lane,
            engine=engine,
            where=expression(where, "where"),
        )
        return self._core.delete(request)

    def read(
        self,
        table: str,
        *,
        columns: Columns | None = None,
        where: str | None = None,
        version: int | None = None,
        timestamp: str | datetime | None = None,
        limit: int | None = None,
        engine: EngineName | None = None,
    ) -> Future[pa.Table]:
        """Read rows of a table as it is, or was. The future's result is a pyarrow Table.

        Args:
            table: Name under the lake's root.
            columns: Columns to read; all by default.
            where: SQL condition on the rows.
            version: Version of the table to read.
            timestamp: Read as of this time, ISO text or a datetime; UTC without a zone.
            limit: Most rows to read; which ones is not said.
            engine: See the class.

        Raises:
            TableNotFound, VersionNotFound, InvalidExpression, SchemaMismatch: By the future.
        """
        query = read_query(
            client_id=self._core.client_id,
            table=table,
            columns=columns,
            where=where,
            version=version,
            timestamp=timestamp,
            limit=limit,
            engine=engine,
        )
        return self._core.ask(query, self._core.take_rows)

    def history(
        self, table: str, limit: int = 100, *, timeout: float | None = _TIMEOUT
    ) -> pa.Table:
        """Read the newest commits of a table, newest first, as Delta's DESCRIBE HISTORY.

        Args:
            table: Name under the lake's root.
            limit: Most commits to read.
            timeout: Seconds to wait.

        Raises:
            TableNotFound: There is no such table.
            ResultTimeout: No worker answered in time.
        """
        query = History(
            request_id=new_request_id(),
            client_id=self._core.client_id,
            table=table_name(table),
            limit=count(limit, "limit"),
        )
        return self._core.answer(query, self._core.take_rows, timeout=timeout)

    def detail(self, table: str, *, timeout: float | None = _TIMEOUT) -> dict[str, Any]:
        """Describe a table: version, schema, partitions, files, bytes, properties.

        Args:
            table: Name under the lake's root.
            timeout: Seconds to wait.

        Raises:
            TableNotFound: There is no such table.
            ResultTimeout: No worker answered in time.
        """
        query = Detail(
            request_id=new_request_id(), client_id=self._core.client_id, table=table_name(table)
        )
        return dict(self._core.answer(query, _value, timeout=timeout))

    def exists(self, table: str, *, timeout: float | None = _TIMEOUT) -> bool:
        """Tell whether there is a table of that name.

        Args:
            table: Name under the lake's root.
            timeout: Seconds to wait.

        Raises:
            ResultTimeout: No worker answered in time.
        """
        query = Exists(
            request_id=new_request_id(), client_id=self._core.client_id, table=table_name(table)
        )
        return bool(self._core.answer(query, _value, timeout=timeout))

    def tables(self, *, timeout: float | None = _TIMEOUT) -> list[str]:
        """List the names of the tables in the lake, sorted.

        Args:
            timeout: Seconds to wait.

        Raises:
            ResultTimeout: No worker answered in time.
        """
        query = ListTables(request_id=new_request_id(), client_id=self._core.client_id)
        return list(self._core.answer(query, _value, timeout=timeout))

    def outcome(self, table: str, request_id: str) -> Outcome | None:
        """Look up what came of a request, of any client, without waiting.

        Returns:
            Its outcome, with state QUEUED if it has not been committed yet; None if the queue
            does not know it: never submitted, or settled longer than ``outcome_ttl`` ago.
        """
        return self._core.outcome(table_name(table), check_request_id(request_id))

    def close(self) -> None:
        """End the client's threads and connections. Requests go on without it.

        Futures that still wait fail with ``ResultTimeout``.
        """
        self._core.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _value(outcome: Outcome) -> Any:
    return outcome.value

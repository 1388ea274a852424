"""What a client asks without changing anything."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any

import pyarrow as pa

from deltaq.client.core import Core
from deltaq.client.drafts import Columns, count, read_query, table_name
from deltaq.client.future import Future
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.query import Detail, Exists, History, ListTables
from deltaq.tasks.request import EngineName, check_request_id, new_request_id

#: Seconds that calls which return no future wait for their answer.
_TIMEOUT = 60.0


class Queries:
    """The asking methods of a client."""

    _core: Core

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
            engine: ``native`` or ``spark``, to insist on one.

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


def _value(outcome: Outcome) -> AbstractContextManager[Any]:
    return nullcontext(outcome.value)

"""What a client asks about tables, and not about their rows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeVar

import pyarrow as pa

from deltaq.client.core import Core
from deltaq.client.drafts import count, table_name
from deltaq.client.pending import Load
from deltaq.tasks.query import Detail, Exists, History, ListTables
from deltaq.tasks.request import new_request_id

T = TypeVar("T")

#: Seconds that they wait for an answer.
_TIMEOUT = 60.0


class Catalog:
    """Methods that tell which tables there are, what they are like and what was done to them."""

    _core: Core

    def history(
        self, table: str, limit: int = 100, *, timeout: float | None = _TIMEOUT
    ) -> pa.Table:
        """Read the newest commits of a table, newest first.

        Args:
            table: Name under the lake's root.
            limit: Most commits to read.
            timeout: Seconds to wait.

        Returns:
            One row for each commit. The columns are those of Delta's DESCRIBE HISTORY, and
            ``rows`` (added, changed or removed, where the log tells), ``engine``,
            ``request_ids`` and ``user``: who submitted them, as setting ``user`` of their
            clients says, or account and machine.

        Raises:
            TableNotFound: There is no such table.
            ResultTimeout: No worker answered in time.
            QueueUnavailable: Redis did not answer.

        Examples:
            >>> commits = client.history("prices", limit=1)
            >>> commits.select(["version", "operation", "rows"]).to_pylist()
            [{'version': 0, 'operation': 'WRITE', 'rows': 2}]
        """
        query = History(
            request_id=new_request_id(),
            client_id=self._core.client_id,
            table=table_name(table),
            limit=count(limit, "limit"),
        )
        return self._core.answer(query, self._core.take_rows, timeout=timeout)

    def detail(self, table: str, *, timeout: float | None = _TIMEOUT) -> dict[str, Any]:
        """Describe a table as it is now.

        Args:
            table: Name under the lake's root.
            timeout: Seconds to wait.

        Returns:
            ``name``, ``location``, ``version``, ``schema`` (name, type and nullable of each
            column), ``partition_by``, ``files``, ``size_bytes``, ``created_at`` (ISO 8601),
            ``comment``, ``properties``, ``features``, ``min_reader_version`` and
            ``min_writer_version``.

        Raises:
            TableNotFound: There is no such table.
            ResultTimeout: No worker answered in time.
            QueueUnavailable: Redis did not answer.

        Examples:
            >>> detail = client.detail("prices")
            >>> detail["version"], detail["files"], [column["name"] for column in detail["schema"]]
            (0, 1, ['symbol', 'price'])
        """
        query = Detail(
            request_id=new_request_id(), client_id=self._core.client_id, table=table_name(table)
        )
        return self._core.answer(query, value_as(dict), timeout=timeout)

    def exists(self, table: str, *, timeout: float | None = _TIMEOUT) -> bool:
        """Tell whether there is a table of that name.

        Args:
            table: Name under the lake's root.
            timeout: Seconds to wait.

        Raises:
            ResultTimeout: No worker answered in time.
            QueueUnavailable: Redis did not answer.

        Examples:
            >>> client.exists("prices")
            True
        """
        query = Exists(
            request_id=new_request_id(), client_id=self._core.client_id, table=table_name(table)
        )
        return self._core.answer(query, value_as(bool), timeout=timeout)

    def tables(self, *, timeout: float | None = _TIMEOUT) -> list[str]:
        """List the names of the tables in the lake, sorted.

        Args:
            timeout: Seconds to wait.

        Raises:
            ResultTimeout: No worker answered in time.
            QueueUnavailable: Redis did not answer.

        Examples:
            >>> client.tables()
            ['orders', 'prices']
        """
        query = ListTables(request_id=new_request_id(), client_id=self._core.client_id)
        return self._core.answer(query, value_as(list), timeout=timeout)


def value_as(kind: Callable[[Any], T]) -> Load[T]:
    """Load an answer's value as one of a kind."""
    # Not done by the methods: over an event loop what they get is no answer yet.
    return lambda outcome: nullcontext(kind(outcome.value))

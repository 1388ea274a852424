"""What a client asks without changing anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import pyarrow as pa

from deltaq.client.asking import After, ask_after, read_query, wait_seconds
from deltaq.client.core import Core
from deltaq.client.drafts import Columns, count, engine_name, expression, table_name
from deltaq.client.future import Future
from deltaq.client.scan import Scan, open_scan
from deltaq.client.selection import Where
from deltaq.client.watch import Watch, open_watch
from deltaq.tasks.errors import InvalidRequest
from deltaq.tasks.query import Read, Sql
from deltaq.tasks.query import Scan as ScanQuery
from deltaq.tasks.request import EngineName, new_request_id

#: Seconds that calls which return no future wait for their answer.
_TIMEOUT = 60.0
#: Seconds that a read waits for the version it needs.
_VERSION_TIMEOUT = 30.0
#: Seconds between two looks at a table's log that nobody asked for.
_POLL = 5.0


class Queries:
    """Methods that read rows, and follow commits."""

    _core: Core

    def read(
        self,
        table: str,
        *,
        columns: Columns | None = None,
        where: Where | None = None,
        version: int | None = None,
        timestamp: str | datetime | None = None,
        limit: int | None = None,
        min_version: int | None = None,
        after: After | None = None,
        version_timeout: float = _VERSION_TIMEOUT,
        engine: EngineName | None = None,
    ) -> Future[pa.Table]:
        """Read rows of a table as it is, or was.

        :func:`to_pandas` makes a DataFrame of them without loss. What may be larger than memory
        is for :meth:`scan`.

        Args:
            table: Name under the lake's root.
            columns: Columns to read; all by default.
            where: Condition on the rows: SQL text, a pyarrow expression such as
                ``pc.field("price") > 1``, or a list of them that must all hold.
            version: Version of the table to read.
            timestamp: Read as of this time, ISO text or a datetime; UTC without a zone.
            limit: Most rows to read; which ones is not said.
            min_version: Wait until the table has this version.
            after: The future of a write, or several: wait until they are committed, and read
                what they wrote.
            version_timeout: Seconds to wait for ``min_version``, at most 3600.
            engine: ``native`` or ``spark``, to insist on one.

        Returns:
            The future of a pyarrow Table.

        Raises:
            InvalidRequest, InvalidExpression: An argument is wrong, or has no counterpart in SQL.
            TableNotFound, VersionNotFound: By the future: there is no such table, or it has not or
                no longer what was asked for.
            SchemaMismatch: By the future: it has no such column.
            VersionNotReached: By the future: the table did not come to ``min_version`` in time.
            DeltaqError: By the future: a write in ``after`` failed; it is that write's error.
            QueueUnavailable: Redis did not answer.

        Examples:
            >>> rows = client.read("prices", where="symbol = 'IBM'").result(timeout=30)
            >>> rows.to_pydict()
            {'symbol': ['IBM'], 'price': [101.5]}
        """
        query = read_query(
            Read,
            client_id=self._core.client_id,
            table=table,
            columns=columns,
            where=where,
            version=version,
            timestamp=timestamp,
            limit=limit,
            min_version=min_version,
            version_timeout=version_timeout,
            engine=engine,
        )
        return ask_after(self._core, query, self._core.take_rows, after)

    def scan(
        self,
        table: str,
        *,
        columns: Columns | None = None,
        where: Where | None = None,
        version: int | None = None,
        timestamp: str | datetime | None = None,
        limit: int | None = None,
        min_version: int | None = None,
        after: After | None = None,
        version_timeout: float = _VERSION_TIMEOUT,
        engine: EngineName | None = None,
        timeout: float | None = _TIMEOUT,
    ) -> Scan:
        """Read rows of a table as a stream of record batches, larger than memory if need be.

        The worker reads while the batches are taken, 64 MiB ahead at most: Spark, where only
        it can read the table, writes the whole result first. All batches are of one version.

        Args:
            table: Name under the lake's root.
            columns: Columns to read; all by default.
            where: Condition on the rows: SQL text, a pyarrow expression, or a list of them that
                must all hold.
            version: Version of the table to read.
            timestamp: Read as of this time, ISO text or a datetime; UTC without a zone.
            limit: Most rows to read; which ones is not said.
            min_version: Wait until the table has this version.
            after: The future of a write, or several: wait until they are committed.
            version_timeout: Seconds to wait for ``min_version``, at most 3600.
            engine: ``native`` or ``spark``, to insist on one.
            timeout: Most seconds to wait for the next batch; None for ever.

        Raises:
            InvalidExpression: ``where`` is none, or has no counterpart in SQL. What else can be
                wrong is raised when a batch is taken.

        Examples:
            >>> with client.scan("prices", columns="price") as batches:
            ...     for batch in batches:
            ...         print(batch.num_rows)
            2
        """
        query = read_query(
            ScanQuery,
            client_id=self._core.client_id,
            table=table,
            columns=columns,
            where=where,
            version=version,
            timestamp=timestamp,
            limit=limit,
            min_version=min_version,
            version_timeout=version_timeout,
            engine=engine,
        )
        return open_scan(self._core, query, after, timeout=timeout)

    def sql(
        self,
        text: str,
        *,
        max_rows: int = 1_000_000,
        max_bytes: int = 256 * 1024 * 1024,
        min_versions: Mapping[str, int] | None = None,
        after: After | None = None,
        version_timeout: float = _VERSION_TIMEOUT,
        engine: EngineName | None = None,
    ) -> Future[pa.Table]:
        """Run one SELECT over any tables of the lake, which it names.

        Args:
            text: Spark SQL, such as ``select symbol, sum(qty) from trades join prices using
                (symbol) group by symbol``. Names with dots or dashes need backquotes. It may
                have WITH and UNION; it cannot change anything or reach files.
            max_rows: A result with more rows is an error, not cut off.
            max_bytes: A result with more bytes, uncompressed, is one too.
            min_versions: Wait until tables have these versions.
            after: The future of a write, or several: wait until they are committed.
            version_timeout: Seconds to wait for versions, at most 3600.
            engine: ``native`` or ``spark``, to insist on one.

        Returns:
            The future of a pyarrow Table.

        Raises:
            InvalidRequest: A limit is no number.
            InvalidExpression: By the future: the text is no SELECT, or names what is not there.
            TableNotFound: By the future: it names a table that is not there.
            ResultTooLarge: By the future: the result has more than ``max_rows`` or ``max_bytes``.
            VersionNotReached: By the future: a table did not come to its version in time.
            QueueUnavailable: Redis did not answer.

        Examples:
            >>> query = "select symbol from prices where price > 100"
            >>> rows = client.sql(query).result(timeout=30)
            >>> rows.to_pydict()
            {'symbol': ['IBM']}
        """
        query = Sql(
            request_id=new_request_id(),
            client_id=self._core.client_id,
            text=expression(text, "sql"),
            max_rows=count(max_rows, "max_rows"),
            max_bytes=count(max_bytes, "max_bytes"),
            min_versions={table_name(t): count(v, t) for t, v in (min_versions or {}).items()},
            wait_seconds=wait_seconds(version_timeout),
            engine=engine_name(engine),
        )
        return ask_after(self._core, query, self._core.take_rows, after)

    def watch(
        self,
        tables: str | Sequence[str],
        *,
        from_version: int | Mapping[str, int] | None = None,
        timeout: float | None = None,
        poll: float = _POLL,
    ) -> Watch:
        """Follow the commits of tables: each one, in order, as it happens and by whomever.

        A table need not exist yet. One that was dropped and created anew begins again at
        version 0. After a restart go on where :attr:`Watch.next_versions` was, without a gap.

        Args:
            tables: One name or several.
            from_version: The first version to tell of, for all tables or by table; by default
                the first commit after this call.
            timeout: Seconds without a commit after which iteration ends; None for never.
            poll: Seconds after which the log is looked at although nothing was heard: so late
                are commits of others, who do not tell of them.

        Raises:
            ResultTimeout: No worker answered within 60 s; only without ``from_version``.
            VersionNotFound: By the iterator: the log was cleaned of ``from_version``.

        Examples:
            >>> with client.watch("prices", from_version=0) as commits:
            ...     for commit in commits:
            ...         print(commit.version, commit.operation, commit.rows)
            ...         break  # or go on for ever
            0 append 2
        """
        if not isinstance(poll, int | float) or not poll > 0:
            raise InvalidRequest(f"poll {poll!r}: give seconds above 0")
        return open_watch(
            self._core,
            tables,
            from_version=from_version,
            poll=poll,
            timeout=timeout,
            begin_within=_TIMEOUT,
        )

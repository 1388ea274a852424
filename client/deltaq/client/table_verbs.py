"""How a client makes a table, also of files, brings an older version back, and removes it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from deltaq.client.core import Core
from deltaq.client.drafts import Columns, Expires, LaneName
from deltaq.client.future import Future
from deltaq.client.requests import (
    convert_request,
    create_request,
    drop_request,
    restore_request,
)
from deltaq.client.room import Room
from deltaq.client.schemas import TableSchema
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.request import EngineName


class TableVerbs:
    """Methods for a table as a whole.

    They are requests like any other: queued, in order with the writes of their lane, applied
    once. The future's outcome has the version they made.
    """

    _core: Core

    def create(
        self,
        table: str,
        schema: TableSchema,
        *,
        partition_by: Columns | None = None,
        properties: Mapping[str, Any] | None = None,
        comment: str | None = None,
        request_id: str | None = None,
        lane: LaneName = "live",
        engine: EngineName | None = None,
        expires: Expires | None = None,
        block: bool = False,
        timeout: float | None = None,
    ) -> Future[Outcome]:
        """Create a table without rows. Writes create tables, too; this one says more of it.

        Args:
            table: Name under the lake's root.
            schema: A pyarrow schema, with its ``nullable`` and the comments in its fields'
                metadata; or a dict from names to types, of pyarrow or in Spark's SQL, such as
                ``{"symbol": "string not null", "price": "decimal(10, 2)"}``.
            partition_by: Columns that partition it.
            properties: Properties of Delta, or of your own.
            comment: What the table is.
            request_id: Identity of the request; the same once more is not applied again.
            lane: ``live``, ``bulk`` or ``maintenance``; order holds within a lane of a table.
            engine: ``native`` or ``spark``, to insist on one; by default the worker chooses.
            expires: Seconds, or a datetime, after which it is dropped unless begun with.
            block: Wait for room instead of raising ``QueueFull`` or ``StagingFull``.
            timeout: Most seconds to wait for room; the outcome is not waited for.

        Returns:
            The future of the :class:`Outcome`; the request is queued, durably.

        Raises:
            InvalidFrame: Names clash, or Delta has no such type.
            TableExists: By the future: there is a table of that name.
            QueueFull, StagingFull: There is no room now; nothing is left behind.
            QueueUnavailable: Redis did not answer; the staged file is kept and named.

        Examples:
            >>> future = client.create("trades", {"symbol": "string not null", "qty": "bigint"})
            >>> future.result(timeout=30).version
            0
        """
        request = create_request(
            schema=schema,
            partition_by=partition_by,
            properties=properties,
            comment=comment,
            client_id=self._core.client_id,
            table=table,
            request_id=request_id,
            lane=lane,
            engine=engine,
            expires=expires,
        )
        return self._core.order(request, Room(block=block, timeout=timeout))

    def convert(
        self,
        table: str,
        *,
        partition_by: TableSchema | None = None,
        request_id: str | None = None,
        lane: LaneName = "live",
        engine: EngineName | None = None,
        expires: Expires | None = None,
        block: bool = False,
        timeout: float | None = None,
    ) -> Future[Outcome]:
        """Make a table of a folder of Parquet files in the lake; the files stay as they are.

        Args:
            table: Name of the folder under the lake's root.
            partition_by: The columns that its folders are named for, from the outermost, as in
                ``day=2024-05-31``, with their types.
            request_id: Identity of the request; the same once more is not applied again.
            lane: ``live``, ``bulk`` or ``maintenance``; order holds within a lane of a table.
            engine: ``native`` or ``spark``, to insist on one; by default the worker chooses.
            expires: Seconds, or a datetime, after which it is dropped unless begun with.
            block: Wait for room instead of raising ``QueueFull`` or ``StagingFull``.
            timeout: Most seconds to wait for room; the outcome is not waited for.

        Returns:
            The future of the :class:`Outcome`; the request is queued, durably.

        Raises:
            TableExists: By the future: it is a Delta table already.
            TableNotFound: By the future: there is no such folder.
            InvalidRequest: By the future: it has no Parquet files, other files of that name, or
                other partitions.
            SchemaMismatch: By the future: the files do not fit together, or have a column that no
                Delta table holds.
            QueueFull, StagingFull: There is no room now; nothing is left behind.
            QueueUnavailable: Redis did not answer; the staged file is kept and named.

        Examples:
            >>> future = client.convert("prices")  # no folder of files, but a table already
            >>> try:
            ...     future.result(timeout=60)
            ... except TableExists as error:
            ...     print(error.code)
            table_exists
        """
        request = convert_request(
            partition_by=partition_by,
            client_id=self._core.client_id,
            table=table,
            request_id=request_id,
            lane=lane,
            engine=engine,
            expires=expires,
        )
        return self._core.order(request, Room(block=block, timeout=timeout))

    def restore(
        self,
        table: str,
        *,
        version: int | None = None,
        timestamp: str | datetime | None = None,
        request_id: str | None = None,
        lane: LaneName = "live",
        engine: EngineName | None = None,
        expires: Expires | None = None,
        block: bool = False,
        timeout: float | None = None,
    ) -> Future[Outcome]:
        """Make a table again what it was; the versions since then stay in its history.

        What was committed since is not applied again: requests are known by the ledger, which
        stays where it is.

        Args:
            table: Name under the lake's root.
            version: Version to bring back.
            timestamp: Bring back what was there at this time; UTC without a zone.
            request_id: Identity of the request; the same once more is not applied again.
            lane: ``live``, ``bulk`` or ``maintenance``; order holds within a lane of a table.
            engine: ``native`` or ``spark``, to insist on one; by default the worker chooses.
            expires: Seconds, or a datetime, after which it is dropped unless begun with.
            block: Wait for room instead of raising ``QueueFull`` or ``StagingFull``.
            timeout: Most seconds to wait for room; the outcome is not waited for.

        Returns:
            The future of the :class:`Outcome`; the request is queued, durably.

        Raises:
            InvalidRequest: Not exactly one of version and timestamp is given.
            VersionNotFound: By the future: there is no such version, or its files are gone.
            QueueFull, StagingFull: There is no room now; nothing is left behind.
            QueueUnavailable: Redis did not answer; the staged file is kept and named.

        Examples:
            >>> deleted = client.delete("prices", where="true")
            >>> restored = client.restore("prices", version=0)
            >>> rows = client.read("prices", after=restored).result(timeout=30)
            >>> rows.num_rows
            2
        """
        request = restore_request(
            version=version,
            timestamp=timestamp,
            client_id=self._core.client_id,
            table=table,
            request_id=request_id,
            lane=lane,
            engine=engine,
            expires=expires,
        )
        return self._core.order(request, Room(block=block, timeout=timeout))

    def drop(
        self,
        table: str,
        *,
        confirm: str,
        request_id: str | None = None,
        lane: LaneName = "live",
        expires: Expires | None = None,
        block: bool = False,
        timeout: float | None = None,
    ) -> Future[Outcome]:
        """Remove a table with all its versions, for good.

        It happens in order: what was queued before goes into the table first, and what is
        queued behind it makes a new table.

        Args:
            table: Name under the lake's root.
            confirm: The name once more.
            request_id: Identity of the request; the same once more is not applied again.
            lane: ``live``, ``bulk`` or ``maintenance``; order holds within a lane of a table.
            expires: Seconds, or a datetime, after which it is dropped unless begun with.
            block: Wait for room instead of raising ``QueueFull`` or ``StagingFull``.
            timeout: Most seconds to wait for room; the outcome is not waited for.

        Returns:
            The future of the :class:`Outcome`; the request is queued, durably.

        Raises:
            InvalidRequest: ``confirm`` is another name.
            TableNotFound: By the future: there is no such table.
            QueueFull, StagingFull: There is no room now; nothing is left behind.
            QueueUnavailable: Redis did not answer; the staged file is kept and named.

        Examples:
            >>> future = client.drop("prices", confirm="prices")
            >>> outcome = future.result(timeout=30)
            >>> client.exists("prices")
            False
        """
        request = drop_request(
            confirm=confirm,
            client_id=self._core.client_id,
            table=table,
            request_id=request_id,
            lane=lane,
            engine=None,
            expires=expires,
        )
        return self._core.order(request, Room(block=block, timeout=timeout))

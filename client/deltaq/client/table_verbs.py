"""What a client does to a table besides its rows: one method for each verb."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from deltaq.client.core import Core
from deltaq.client.drafts import Columns, Expires, LaneName
from deltaq.client.future import Future
from deltaq.client.requests import (
    add_column_request,
    create_request,
    drop_request,
    rename_column_request,
    restore_request,
    set_properties_request,
)
from deltaq.client.room import Room
from deltaq.client.schemas import TableSchema, Type
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.request import EngineName


class TableVerbs:
    """Methods that change a table as a whole.

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
            request_id: See the class ``Client``, as all below.
            lane: See there.
            engine: See there.
            expires: See there.
            block: See there.
            timeout: See there.

        Raises:
            InvalidFrame: Names clash, or Delta has no such type.
            TableExists: By the future: there is a table of that name.
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
            request_id: See the class ``Client``, as all below.
            lane: See there.
            engine: See there.
            expires: See there.
            block: See there.
            timeout: See there.

        Raises:
            InvalidRequest: Not exactly one of version and timestamp is given.
            VersionNotFound: By the future: there is no such version, or its files are gone.
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
            request_id: See the class ``Client``, as all below.
            lane: See there.
            expires: See there.
            block: See there.
            timeout: See there.

        Raises:
            InvalidRequest: ``confirm`` is another name.
            TableNotFound: By the future: there is no such table.
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

    def set_properties(
        self,
        table: str,
        properties: Mapping[str, Any],
        *,
        request_id: str | None = None,
        lane: LaneName = "live",
        engine: EngineName | None = None,
        expires: Expires | None = None,
        block: bool = False,
        timeout: float | None = None,
    ) -> Future[Outcome]:
        """Set properties of a table, and keep those that are not named.

        Args:
            table: Name under the lake's root.
            properties: Properties of Delta, or of your own; ``detail`` shows them.
            request_id: See the class ``Client``, as all below.
            lane: See there.
            engine: See there.
            expires: See there.
            block: See there.
            timeout: See there.

        Raises:
            TableNotFound: By the future: there is no such table.
            InvalidRequest: By the future: Delta does not know the property or refuses its value.
        """
        request = set_properties_request(
            properties=properties,
            client_id=self._core.client_id,
            table=table,
            request_id=request_id,
            lane=lane,
            engine=engine,
            expires=expires,
        )
        return self._core.order(request, Room(block=block, timeout=timeout))

    def add_column(
        self,
        table: str,
        name: str,
        type: Type,
        *,
        comment: str | None = None,
        request_id: str | None = None,
        lane: LaneName = "live",
        engine: EngineName | None = None,
        expires: Expires | None = None,
        block: bool = False,
        timeout: float | None = None,
    ) -> Future[Outcome]:
        """Add a column to a table; it comes last, and is null in all rows.

        Args:
            table: Name under the lake's root.
            name: The column's name.
            type: Its type, of pyarrow or in Spark's SQL, such as ``"decimal(10, 2)"``.
            comment: What the column is.
            request_id: See the class ``Client``, as all below.
            lane: See there.
            engine: See there.
            expires: See there.
            block: See there.
            timeout: See there.

        Raises:
            InvalidFrame: Delta has no such type.
            TableNotFound: By the future: there is no such table.
            SchemaMismatch: By the future: the table has that column.
        """
        request = add_column_request(
            name=name,
            kind=type,
            comment=comment,
            client_id=self._core.client_id,
            table=table,
            request_id=request_id,
            lane=lane,
            engine=engine,
            expires=expires,
        )
        return self._core.order(request, Room(block=block, timeout=timeout))

    def rename_column(
        self,
        table: str,
        column: str,
        to: str,
        *,
        request_id: str | None = None,
        lane: LaneName = "live",
        engine: EngineName | None = None,
        expires: Expires | None = None,
        block: bool = False,
        timeout: float | None = None,
    ) -> Future[Outcome]:
        """Give a column another name, without rewriting a row.

        Delta can do that in tables with column mapping:
        ``set_properties(table, {"delta.columnMapping.mode": "name"})`` turns it on, for good.

        Args:
            table: Name under the lake's root.
            column: Its name now.
            to: Its new name.
            request_id: See the class ``Client``, as all below.
            lane: See there.
            engine: See there.
            expires: See there.
            block: See there.
            timeout: See there.

        Raises:
            TableNotFound: By the future: there is no such table.
            SchemaMismatch: By the future: there is no such column, one of the new name, or no
                column mapping.
        """
        request = rename_column_request(
            column=column,
            to=to,
            client_id=self._core.client_id,
            table=table,
            request_id=request_id,
            lane=lane,
            engine=engine,
            expires=expires,
        )
        return self._core.order(request, Room(block=block, timeout=timeout))

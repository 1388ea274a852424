"""How a client changes the columns and properties of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deltaq.client.core import Core
from deltaq.client.drafts import Expires, LaneName
from deltaq.client.future import Future
from deltaq.client.requests import (
    add_column_request,
    rename_column_request,
    set_properties_request,
)
from deltaq.client.room import Room
from deltaq.client.schemas import Type
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.request import EngineName


class Alterations:
    """Methods that change how a table is described; requests like any other."""

    _core: Core

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
            request_id: Identity of the request; the same once more is not applied again.
            lane: ``live``, ``bulk`` or ``maintenance``; order holds within a lane of a table.
            engine: ``native`` or ``spark``, to insist on one; by default the worker chooses.
            expires: Seconds, or a datetime, after which it is dropped unless begun with.
            block: Wait for room instead of raising ``QueueFull`` or ``StagingFull``.
            timeout: Most seconds to wait for room; the outcome is not waited for.

        Returns:
            The future of the :class:`Outcome`; the request is queued, durably.

        Raises:
            TableNotFound: By the future: there is no such table.
            RequestError: By the future: Delta does not know the property or refuses its value.
            QueueFull, StagingFull: There is no room now; nothing is left behind.
            QueueUnavailable: Redis did not answer; the staged file is kept and named.

        Examples:
            >>> future = client.set_properties("prices", {"source": "exchange"})
            >>> outcome = future.result(timeout=30)
            >>> detail = client.detail("prices")
            >>> detail["properties"]["source"]
            'exchange'
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
            request_id: Identity of the request; the same once more is not applied again.
            lane: ``live``, ``bulk`` or ``maintenance``; order holds within a lane of a table.
            engine: ``native`` or ``spark``, to insist on one; by default the worker chooses.
            expires: Seconds, or a datetime, after which it is dropped unless begun with.
            block: Wait for room instead of raising ``QueueFull`` or ``StagingFull``.
            timeout: Most seconds to wait for room; the outcome is not waited for.

        Returns:
            The future of the :class:`Outcome`; the request is queued, durably.

        Raises:
            InvalidFrame: Delta has no such type.
            TableNotFound: By the future: there is no such table.
            SchemaMismatch: By the future: the table has that column.
            QueueFull, StagingFull: There is no room now; nothing is left behind.
            QueueUnavailable: Redis did not answer; the staged file is kept and named.

        Examples:
            >>> future = client.add_column("prices", "venue", "string", comment="where it was traded")
            >>> rows = client.read("prices", after=future).result(timeout=30)
            >>> rows.column_names
            ['symbol', 'price', 'venue']
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
            request_id: Identity of the request; the same once more is not applied again.
            lane: ``live``, ``bulk`` or ``maintenance``; order holds within a lane of a table.
            engine: ``native`` or ``spark``, to insist on one; by default the worker chooses.
            expires: Seconds, or a datetime, after which it is dropped unless begun with.
            block: Wait for room instead of raising ``QueueFull`` or ``StagingFull``.
            timeout: Most seconds to wait for room; the outcome is not waited for.

        Returns:
            The future of the :class:`Outcome`; the request is queued, durably.

        Raises:
            TableNotFound: By the future: there is no such table.
            SchemaMismatch: By the future: there is no such column, one of the new name, or no
                column mapping.
            QueueFull, StagingFull: There is no room now; nothing is left behind.
            QueueUnavailable: Redis did not answer; the staged file is kept and named.

        Examples:
            >>> future = client.rename_column("prices", "price", to="close")
            >>> future.result(timeout=30)
            Traceback (most recent call last):
            deltaq.tasks.errors.SchemaMismatch: ...
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

"""What a client changes: one method for each operation on a table."""

from __future__ import annotations

from typing import Any

from deltaq.client.core import Core
from deltaq.client.drafts import (
    Columns,
    Expires,
    LaneName,
    check_merge,
    column_names,
    draft,
    expression,
    names_or_none,
    optional,
    table_name,
)
from deltaq.client.frames import Frame
from deltaq.client.future import Future
from deltaq.client.room import Room
from deltaq.tasks.errors import InvalidRequest
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.request import (
    Append,
    Delete,
    EngineName,
    Merge,
    Overwrite,
    check_request_id,
)


class Writes:
    """The writing methods of a client; what they share is told by :class:`Client`."""

    _core: Core

    def append(
        self,
        table: str,
        frame: Frame,
        *,
        partition_by: Columns | None = None,
        request_id: str | None = None,
        lane: LaneName = "live",
        engine: EngineName | None = None,
        expires: Expires | None = None,
        block: bool = False,
        timeout: float | None = None,
    ) -> Future[Outcome]:
        """Append the rows of a frame to a table, which is created if need be.

        Args:
            table: Name under the lake's root.
            frame: Rows to add; columns match by name, in any order.
            partition_by: Columns that partition the table when this creates it.
            request_id: See the class.
            lane: See the class.
            engine: See the class.
            expires: See the class.
            block: See the class.
            timeout: See the class.

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
            expires=expires,
            partition_by=optional(column_names, partition_by, "partition_by"),
        )
        return self._core.write(request, frame, Room(block=block, timeout=timeout))

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
        expires: Expires | None = None,
        block: bool = False,
        timeout: float | None = None,
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
            expires: See the class.
            block: See the class.
            timeout: See the class.

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
            expires=expires,
            where=optional(expression, where, "where"),
            partition_by=optional(column_names, partition_by, "partition_by"),
        )
        return self._core.write(request, frame, Room(block=block, timeout=timeout))

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
        expires: Expires | None = None,
        block: bool = False,
        timeout: float | None = None,
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
            expires: See the class.
            block: See the class.
            timeout: See the class.

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
            expires=expires,
            keys=column_names(keys, "keys"),
            update=names,
            insert=insert,
            delete_when=optional(expression, delete_when, "delete_when"),
            partition_by=optional(column_names, partition_by, "partition_by"),
        )
        return self._core.write(request, frame, Room(block=block, timeout=timeout))

    def delete(
        self,
        table: str,
        *,
        where: str,
        request_id: str | None = None,
        lane: LaneName = "live",
        engine: EngineName | None = None,
        expires: Expires | None = None,
        block: bool = False,
        timeout: float | None = None,
    ) -> Future[Outcome]:
        """Delete the rows of a table that satisfy a condition.

        Args:
            table: Name under the lake's root.
            where: SQL condition, such as ``"ts < '2024-01-01'"``; ``"true"`` for all rows.
            request_id: See the class.
            lane: See the class.
            engine: See the class.
            expires: See the class.
            block: See the class.
            timeout: See the class.
        """
        request = draft(
            Delete,
            client_id=self._core.client_id,
            table=table,
            request_id=request_id,
            lane=lane,
            engine=engine,
            expires=expires,
            where=expression(where, "where"),
        )
        return self._core.delete(request, Room(block=block, timeout=timeout))

    def cancel(self, request: Future[Any] | str, *, request_id: str | None = None) -> bool:
        """Cancel a request if no worker has begun with it.

        What a worker has begun with cannot be stopped: it goes on, and its outcome says what
        became of it.

        Args:
            request: The future of the request; or the table of a request of any client, with
                ``request_id``.
            request_id: Id of the request on that table.

        Returns:
            True: it is certain that the request is not and will not be applied; its future,
            whoever holds it, raises ``RequestCancelled``.
            False: a worker has begun with it, it is settled otherwise, or the queue does not
            know it.

        Raises:
            QueueUnavailable: Redis did not answer; the request goes on.
        """
        if isinstance(request, Future):
            if request_id is not None:
                raise InvalidRequest("a future knows its request: leave out request_id")
            return request.cancel()
        if request_id is None:
            raise InvalidRequest("give a future, or a table and request_id")
        return self._core.cancel(table_name(request), check_request_id(request_id))

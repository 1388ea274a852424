"""What a client changes: one method for each operation on a table."""

from __future__ import annotations

from deltaq.client.core import Core
from deltaq.client.drafts import Columns, Expires, LaneName
from deltaq.client.frames import Frame
from deltaq.client.future import Future
from deltaq.client.requests import (
    append_request,
    delete_request,
    merge_request,
    merge_scd2_request,
    overwrite_request,
)
from deltaq.client.room import Room
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.request import EngineName, SchemaMode


class Writes:
    """The writing methods of a client; what they share is told by :class:`Client`."""

    _core: Core

    def append(
        self,
        table: str,
        frame: Frame,
        *,
        dedupe_on: Columns | None = None,
        schema_mode: SchemaMode | None = None,
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
            frame: Rows to add, of pandas, polars or pyarrow (a reader, too); columns match by
                name, in any order.
            dedupe_on: Columns that identify a row: one that the table has already is not added.
                It is a merge that only inserts, and so a null among them matches nothing.
            schema_mode: ``merge``: columns that the table lacks are added to it.
            partition_by: Columns that partition the table when this creates it.
            request_id: Identity of the request; the same once more is not applied again.
            lane: ``live``, ``bulk`` or ``maintenance``; order holds within a lane of a table.
            engine: ``native`` or ``spark``, to insist on one; by default the worker chooses.
            expires: Seconds, or a datetime, after which it is dropped unless begun with.
            block: Wait for room instead of raising ``QueueFull`` or ``StagingFull``.
            timeout: Most seconds to wait for room; the outcome is not waited for.

        Returns:
            The future of the :class:`Outcome`; the request is queued, durably.

        Raises:
            InvalidFrame: The frame has columns or values that no Delta table can hold.
            SchemaMismatch: A column to partition by, or of ``dedupe_on``, is not in the frame; by the
                future: the frame does not fit the table.
            DuplicateKeys: By the future: two rows of the frame are the same by ``dedupe_on``.
            QueueFull, StagingFull: There is no room now; nothing is left behind.
            QueueUnavailable: Redis did not answer; the staged file is kept and named.

        Examples:
            >>> future = client.append("prices", frame)
            >>> outcome = future.result(timeout=30)
            >>> outcome.version, outcome.inserted
            (1, 2)
        """
        request = append_request(
            dedupe_on=dedupe_on,
            schema_mode=schema_mode,
            partition_by=partition_by,
            client_id=self._core.client_id,
            table=table,
            request_id=request_id,
            lane=lane,
            engine=engine,
            expires=expires,
        )
        return self._core.write(request, frame, Room(block=block, timeout=timeout))

    def overwrite(
        self,
        table: str,
        frame: Frame,
        *,
        where: str | None = None,
        schema_mode: SchemaMode | None = None,
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
            frame: The new rows, of pandas, polars or pyarrow. With ``where`` each of them must
                satisfy it.
            where: SQL condition on the rows to replace, such as ``"day = '2024-05-31'"``.
            schema_mode: ``merge``: columns that the table lacks are added to it.
            partition_by: Columns that partition the table when this creates it.
            request_id: Identity of the request; the same once more is not applied again.
            lane: ``live``, ``bulk`` or ``maintenance``; order holds within a lane of a table.
            engine: ``native`` or ``spark``, to insist on one; by default the worker chooses.
            expires: Seconds, or a datetime, after which it is dropped unless begun with.
            block: Wait for room instead of raising ``QueueFull`` or ``StagingFull``.
            timeout: Most seconds to wait for room; the outcome is not waited for.

        Returns:
            The future of the :class:`Outcome`; the request is queued, durably.

        Raises:
            InvalidFrame: The frame has columns or values that no Delta table can hold.
            SchemaMismatch: A column to partition by is not in the frame; by the future: the frame does
                not fit the table.
            InvalidExpression: By the future: ``where`` is none for this table.
            ConstraintViolated: By the future: a new row does not satisfy ``where``.
            QueueFull, StagingFull: There is no room now; nothing is left behind.
            QueueUnavailable: Redis did not answer; the staged file is kept and named.

        Examples:
            >>> future = client.overwrite("prices", frame.head(1), where="symbol = 'IBM'")
            >>> outcome = future.result(timeout=30)
            >>> outcome.inserted, outcome.deleted
            (1, 1)
        """
        request = overwrite_request(
            where=where,
            schema_mode=schema_mode,
            partition_by=partition_by,
            client_id=self._core.client_id,
            table=table,
            request_id=request_id,
            lane=lane,
            engine=engine,
            expires=expires,
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
        schema_mode: SchemaMode | None = None,
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
            frame: Rows of pandas, polars or pyarrow; one at most for each combination of keys.
            keys: Columns that identify a row. A null matches nothing, as in SQL.
            update: Columns to update in matched rows; all by default, ``[]`` for none.
            insert: Insert the rows that match nothing.
            delete_when: SQL condition over the frame's columns, such as ``"op = 'D'"``: the
                rows matched by such a row are deleted, and it is never inserted.
            schema_mode: ``merge``: columns that the table lacks are added to it, and columns
                that the frame lacks stay as they are in matched rows.
            partition_by: Columns that partition the table when this creates it.
            request_id: Identity of the request; the same once more is not applied again.
            lane: ``live``, ``bulk`` or ``maintenance``; order holds within a lane of a table.
            engine: ``native`` or ``spark``, to insist on one; by default the worker chooses.
            expires: Seconds, or a datetime, after which it is dropped unless begun with.
            block: Wait for room instead of raising ``QueueFull`` or ``StagingFull``.
            timeout: Most seconds to wait for room; the outcome is not waited for.

        Returns:
            The future of the :class:`Outcome`; the request is queued, durably.

        Raises:
            InvalidFrame: The frame has columns or values that no Delta table can hold.
            SchemaMismatch: A key or another named column is not in the frame; by the future: the frame
                does not fit the table.
            DuplicateKeys: By the future: two rows have the same keys; they are named.
            QueueFull, StagingFull: There is no room now; nothing is left behind.
            QueueUnavailable: Redis did not answer; the staged file is kept and named.

        Examples:
            >>> fixes = pd.DataFrame({"symbol": ["IBM", "SAP"], "price": [102.0, 180.5]})
            >>> future = client.merge("prices", fixes, keys="symbol")
            >>> outcome = future.result(timeout=30)
            >>> outcome.updated, outcome.inserted
            (1, 1)
        """
        request = merge_request(
            keys=keys,
            update=update,
            insert=insert,
            delete_when=delete_when,
            schema_mode=schema_mode,
            partition_by=partition_by,
            client_id=self._core.client_id,
            table=table,
            request_id=request_id,
            lane=lane,
            engine=engine,
            expires=expires,
        )
        return self._core.write(request, frame, Room(block=block, timeout=timeout))

    def merge_scd2(
        self,
        table: str,
        frame: Frame,
        *,
        keys: Columns,
        track: Columns | None = None,
        valid_from: str = "valid_from",
        valid_to: str = "valid_to",
        is_current: str = "is_current",
        partition_by: Columns | None = None,
        request_id: str | None = None,
        lane: LaneName = "live",
        engine: EngineName | None = None,
        expires: Expires | None = None,
        block: bool = False,
        timeout: float | None = None,
    ) -> Future[Outcome]:
        """Keep every version of a row: a slowly changing dimension of type 2.

        A row whose keys are new is inserted. One that differs from the current version of its
        keys in a tracked column ends that version and becomes the current one, both in one
        commit. All others change nothing, so that the same frame again does nothing.

        Args:
            table: Name under the lake's root; the table is created if need be.
            frame: Rows of pandas, polars or pyarrow; one at most for each combination of keys,
                which are never null.
            keys: Columns that identify what has versions.
            track: Columns whose change makes a new version; all but the keys by default.
            valid_from: Column with the time from which a version holds. If the frame has it,
                that time must be later than that of the current version; if not, it is the time
                of this call, in UTC.
            valid_to: Column with the time at which a version ended; null while it is current.
            is_current: Column that tells current versions from others.
            partition_by: Columns that partition the table when this creates it.
            request_id: Identity of the request; the same once more is not applied again.
            lane: ``live``, ``bulk`` or ``maintenance``; order holds within a lane of a table.
            engine: ``native`` or ``spark``, to insist on one; by default the worker chooses.
            expires: Seconds, or a datetime, after which it is dropped unless begun with.
            block: Wait for room instead of raising ``QueueFull`` or ``StagingFull``.
            timeout: Most seconds to wait for room; the outcome is not waited for.

        Returns:
            The future of the :class:`Outcome`; the request is queued, durably.

        Raises:
            InvalidFrame: The frame has columns or values that no Delta table can hold.
            SchemaMismatch: A key or a tracked column is not in the frame; by the future: the frame does
                not fit the table.
            DuplicateKeys: By the future: two rows have the same keys; they are named.
            ConstraintViolated: By the future: a new version does not begin after the current one.
            QueueFull, StagingFull: There is no room now; nothing is left behind.
            QueueUnavailable: Redis did not answer; the staged file is kept and named.

        Examples:
            >>> future = client.merge_scd2("members", frame, keys="symbol")
            >>> rows = client.read("members", after=future).result(timeout=30)
            >>> rows.column_names
            ['symbol', 'price', 'valid_from', 'valid_to', 'is_current']
        """
        request = merge_scd2_request(
            keys=keys,
            track=track,
            valid_from=valid_from,
            valid_to=valid_to,
            is_current=is_current,
            partition_by=partition_by,
            client_id=self._core.client_id,
            table=table,
            request_id=request_id,
            lane=lane,
            engine=engine,
            expires=expires,
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
            request_id: Identity of the request; the same once more is not applied again.
            lane: ``live``, ``bulk`` or ``maintenance``; order holds within a lane of a table.
            engine: ``native`` or ``spark``, to insist on one; by default the worker chooses.
            expires: Seconds, or a datetime, after which it is dropped unless begun with.
            block: Wait for room instead of raising ``QueueFull`` or ``StagingFull``.
            timeout: Most seconds to wait for room; the outcome is not waited for.

        Returns:
            The future of the :class:`Outcome`; the request is queued, durably.

        Raises:
            InvalidExpression: ``where`` is no text; by the future: it is none for this table.
            TableNotFound: By the future: there is no such table.
            QueueFull, StagingFull: There is no room now; nothing is left behind.
            QueueUnavailable: Redis did not answer; the staged file is kept and named.

        Examples:
            >>> future = client.delete("prices", where="price < 100")
            >>> future.result(timeout=30).deleted
            1
        """
        request = delete_request(
            where=where,
            client_id=self._core.client_id,
            table=table,
            request_id=request_id,
            lane=lane,
            engine=engine,
            expires=expires,
        )
        return self._core.order(request, Room(block=block, timeout=timeout))

"""What keeps a table quick to read and small, and leaves its rows as they are."""

from __future__ import annotations

from typing import Any

from deltaq.client.catalog import value_as
from deltaq.client.core import Core
from deltaq.client.drafts import Columns, Expires, LaneName, table_name
from deltaq.client.future import Future
from deltaq.client.requests import (
    checkpoint_request,
    optimize_request,
    set_properties_request,
    vacuum_request,
)
from deltaq.client.room import Room
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.policy import policy_properties
from deltaq.tasks.query import Analyze
from deltaq.tasks.request import SAFE_RETENTION_HOURS, EngineName, new_request_id


class Upkeep:
    """The methods of a client that compact tables; what they share is told by ``Client``."""

    _core: Core

    def optimize(
        self,
        table: str,
        *,
        zorder: Columns | None = None,
        where: str | None = None,
        target_bytes: int | None = None,
        request_id: str | None = None,
        lane: LaneName = "maintenance",
        engine: EngineName | None = None,
        expires: Expires | None = None,
        block: bool = False,
        timeout: float | None = None,
    ) -> Future[Outcome]:
        """Compact the small files of a table; its rows stay as they are.

        It is done in slices, each of one partition or some small ones and a commit of its own;
        writes to the table go on between them. What is done stays done, also when it is
        cancelled or a worker dies in between.

        Args:
            table: Name under the lake's root.
            zorder: Columns that conditions name: all rows are ordered along them (Z-order), so
                that reads skip more files.
            where: Only partitions for which this holds; it names no other columns.
            target_bytes: Size below which a file is small, and to which small ones are put
                together; 100 MB if not given (1 GB with Spark).
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
            SchemaMismatch: By the future: no such column; or one to order by that partitions the
                table; or a condition on one that does not.
            QueueFull, StagingFull: There is no room now; nothing is left behind.
            QueueUnavailable: Redis did not answer; the staged file is kept and named.

        Examples:
            >>> future = client.optimize("prices", zorder="symbol")
            >>> future.result(timeout=60).state
            <State.COMMITTED: 'committed'>
        """
        request = optimize_request(
            zorder=zorder,
            where=where,
            target_bytes=target_bytes,
            client_id=self._core.client_id,
            table=table,
            request_id=request_id,
            lane=lane,
            engine=engine,
            expires=expires,
        )
        return self._core.order(request, Room(block=block, timeout=timeout))

    def vacuum(
        self,
        table: str,
        *,
        retention_hours: int = SAFE_RETENTION_HOURS,
        dry_run: bool = False,
        force: bool = False,
        request_id: str | None = None,
        lane: LaneName = "maintenance",
        engine: EngineName | None = None,
        expires: Expires | None = None,
        block: bool = False,
        timeout: float | None = None,
    ) -> Future[Outcome]:
        """Remove the files that no version of the last hours needs.

        What a backfill has prepared stays, and what a read needs that runs now. Versions older
        than that cannot be read or restored afterwards.

        Args:
            table: Name under the lake's root.
            retention_hours: Hours whose versions are kept.
            dry_run: Remove nothing: the outcome's ``value`` tells how many ``files`` of how many
                ``size_bytes`` would go, and the first 1,000 are ``listed``.
            force: Allow less than 168 hours, which breaks readers and commits that began
                before; for when nobody else uses the table.
            request_id: Identity of the request; the same once more is not applied again.
            lane: ``live``, ``bulk`` or ``maintenance``; order holds within a lane of a table.
            engine: ``native`` or ``spark``, to insist on one; by default the worker chooses.
            expires: Seconds, or a datetime, after which it is dropped unless begun with.
            block: Wait for room instead of raising ``QueueFull`` or ``StagingFull``.
            timeout: Most seconds to wait for room; the outcome is not waited for.

        Returns:
            The future of the :class:`Outcome`; the request is queued, durably.

        Raises:
            InvalidRequest: Less than 168 hours without ``force``.
            TableNotFound: By the future: there is no such table.
            QueueFull, StagingFull: There is no room now; nothing is left behind.
            QueueUnavailable: Redis did not answer; the staged file is kept and named.

        Examples:
            >>> future = client.vacuum("prices", dry_run=True)
            >>> future.result(timeout=60).value
            {'files': 0, 'size_bytes': 0, 'listed': []}
        """
        request = vacuum_request(
            retention_hours=retention_hours,
            dry_run=dry_run,
            force=force,
            client_id=self._core.client_id,
            table=table,
            request_id=request_id,
            lane=lane,
            engine=engine,
            expires=expires,
        )
        return self._core.order(request, Room(block=block, timeout=timeout))

    def checkpoint(
        self,
        table: str,
        *,
        request_id: str | None = None,
        lane: LaneName = "maintenance",
        engine: EngineName | None = None,
        expires: Expires | None = None,
        block: bool = False,
        timeout: float | None = None,
    ) -> Future[Outcome]:
        """Write a checkpoint of a table, so that opening it reads no older entry of its log.

        Workers do so by themselves every so many commits; this is for whoever has written to the
        table without them.

        Args:
            table: Name under the lake's root.
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
            QueueFull, StagingFull: There is no room now; nothing is left behind.
            QueueUnavailable: Redis did not answer; the staged file is kept and named.

        Examples:
            >>> future = client.checkpoint("prices")
            >>> future.result(timeout=60).state
            <State.COMMITTED: 'committed'>
        """
        request = checkpoint_request(
            client_id=self._core.client_id,
            table=table,
            request_id=request_id,
            lane=lane,
            engine=engine,
            expires=expires,
        )
        return self._core.order(request, Room(block=block, timeout=timeout))

    def analyze(self, table: str, *, timeout: float | None = 60.0) -> dict[str, Any]:
        """Tell how a table is stored, and what to do about it.

        Args:
            table: Name under the lake's root.
            timeout: Seconds to wait.

        Returns:
            ``files``, ``size_bytes``, ``rows``; how many are ``small_files``, and how many would
            be ``needed_files``; ``file_sizes``, a histogram; ``partitions``, how many there are,
            the ``largest_partitions``, and their ``skew``: how many times the largest is as large
            as the one in the middle; ``suggestions``, as text.

        Raises:
            TableNotFound: There is no such table.
            ResultTimeout: No worker answered in time.
            QueueUnavailable: Redis did not answer.

        Examples:
            >>> told = client.analyze("prices")
            >>> told["files"], told["rows"], told["suggestions"]
            (1, 2, [])
        """
        query = Analyze(
            request_id=new_request_id(), client_id=self._core.client_id, table=table_name(table)
        )
        return self._core.answer(query, value_as(dict), timeout=timeout)

    def set_policy(
        self,
        table: str,
        *,
        compact_files: int | None = None,
        zorder: Columns | None = None,
        zorder_hours: int | None = None,
        vacuum_hours: int | None = None,
        checkpoint_commits: int | None = None,
        hours: str | None = None,
        request_id: str | None = None,
        lane: LaneName = "live",
        engine: EngineName | None = None,
        expires: Expires | None = None,
        block: bool = False,
        timeout: float | None = None,
    ) -> Future[Outcome]:
        """Say when a table is maintained without anybody asking.

        What is not named stays as it is; what was never named is as the settings of the workers
        say. The policy is kept in the table's properties, each after ``deltaq.policy.``.

        Args:
            table: Name under the lake's root.
            compact_files: Small files in one partition above which it is compacted; 0 for never.
            zorder: Columns along which all rows are ordered, ``[]`` for none.
            zorder_hours: Hours, at least, between two times that they are; 0 for never.
            vacuum_hours: Age of the files, no longer needed, that are removed once a day: 168 or
                more, 0 for never.
            checkpoint_commits: Commits after which a checkpoint is written.
            hours: When anything else may begin, as ``22:00-06:00`` in UTC, or ``always``.
            request_id: Identity of the request; the same once more is not applied again.
            lane: ``live``, ``bulk`` or ``maintenance``; order holds within a lane of a table.
            engine: ``native`` or ``spark``, to insist on one; by default the worker chooses.
            expires: Seconds, or a datetime, after which it is dropped unless begun with.
            block: Wait for room instead of raising ``QueueFull`` or ``StagingFull``.
            timeout: Most seconds to wait for room; the outcome is not waited for.

        Returns:
            The future of the :class:`Outcome`; the request is queued, durably.

        Raises:
            InvalidRequest: Nothing is named, or something that cannot be meant.
            TableNotFound: By the future: there is no such table.
            SchemaMismatch: By the future: a column to order by is not in the table, or partitions
                it.
            QueueFull, StagingFull: There is no room now; nothing is left behind.
            QueueUnavailable: Redis did not answer; the staged file is kept and named.

        Examples:
            >>> future = client.set_policy("prices", compact_files=20, hours="22:00-06:00")
            >>> future.result(timeout=60).state
            <State.COMMITTED: 'committed'>
        """
        wishes = {
            "compact_files": compact_files,
            "zorder": zorder,
            "zorder_hours": zorder_hours,
            "vacuum_hours": vacuum_hours,
            "checkpoint_commits": checkpoint_commits,
            "hours": hours,
        }
        request = set_properties_request(
            properties=policy_properties({k: v for k, v in wishes.items() if v is not None}),
            client_id=self._core.client_id,
            table=table,
            request_id=request_id,
            lane=lane,
            engine=engine,
            expires=expires,
        )
        return self._core.order(request, Room(block=block, timeout=timeout))

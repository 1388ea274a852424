"""How the Spark engine turns a group of requests into one Delta commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from deltaq.tasks.errors import TransientError
from deltaq.tasks.request import (
    Append,
    Checkpoint,
    Convert,
    Create,
    Delete,
    FrameRequest,
    Merge,
    MergeScd2,
    Optimize,
    Overwrite,
    TableChange,
    Vacuum,
)
from deltaq.tasks.staging import StagingArea
from deltaq.worker.engines import scd2, spark_commands, spark_verbs
from deltaq.worker.engines.columns import (
    check_new_partitions,
    check_partition_values,
    check_partitions,
    check_required,
    columns_to_update,
)
from deltaq.worker.engines.delta_schema import arrow_schema
from deltaq.worker.engines.delta_types import is_text
from deltaq.worker.engines.evolve import WIDENING, evolve
from deltaq.worker.engines.fit import (
    check_keys_present,
    check_unique_keys,
    fit_schema,
    fitted_batches,
)
from deltaq.worker.engines.kernel import Kernel, Snapshot
from deltaq.worker.engines.spark_frames import staged_frame, staged_schema, table_frame
from deltaq.worker.engines.spark_queries import prepare
from deltaq.worker.engines.spark_work import SparkWork
from deltaq.worker.engines.verb_rules import table_exists
from deltaq.worker.expressions import columns_in
from deltaq.worker.groups import CommitGroup
from deltaq.worker.lake import Lake
from deltaq.worker.ledger import find_committed

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pyspark.sql import DataFrame, SparkSession


class Change:
    """One group on its way into one commit, in a session of its own.

    Args:
        group: What to commit.
        lake: Where the table is.
        snapshot: The table; None when it is not there.
        session: Whose confs say what the commit's metadata is.
        kernel: Looks up versions.
        staging: Where the staged files are.
        work: Hands files to Spark.

    Attributes:
        value: What the outcome tells besides counts.
    """

    value: Any = None

    def __init__(
        self,
        group: CommitGroup,
        lake: Lake,
        snapshot: Snapshot | None,
        *,
        session: SparkSession,
        kernel: Kernel,
        staging: StagingArea,
        work: SparkWork,
    ) -> None:
        self._group = group
        self._lake = lake
        self._path = lake.path(group.table)
        self._snapshot = snapshot
        self._session = session
        self._kernel = kernel
        self._work = work
        self._staged = [staging.request_path(r.table, r.request_id) for r in group.requests]

    def perform(self) -> None:
        """Commit the group, unless there is nothing to change.

        Raises:
            RequestError, TransientError: As ``Engine.apply`` says.
        """
        match self._group.first:
            case Append() as request:
                self._append(request)
            case Overwrite() as request:
                self._overwrite(request)
            case Merge() as request:
                self._merge(request)
            case MergeScd2() as request:
                self._merge_scd2(request)
            case Create() as request:
                if self._snapshot:
                    raise table_exists(request.table)
                spark_verbs.create(self._session, self._path, request)
            case Delete() as request:
                prepare(self._session, request.where, self._existing().schema)
                spark_commands.delete(self._session, self._path, request.where)
            case request if isinstance(request, TableChange):
                snapshot = self._existing()
                spark_verbs.change(self._session, self._kernel, self._path, request, snapshot)
            case Convert() as request:
                self._convert(request)
            case Checkpoint():
                self._kernel.checkpoint(self._path, self._existing().version)
            case Optimize() as request:
                spark_verbs.optimize(self._session, self._path, request, self._existing())
            case Vacuum() as request:
                snapshot = self._existing()
                self._check_unread()
                self.value = spark_verbs.vacuum(self._session, self._path, request, snapshot)

    def _convert(self, request: Convert) -> None:
        """Make a table of a folder, unless only the ledger is to be moved after that."""
        if self._snapshot is None:
            spark_verbs.convert(self._session, self._path, request)
        elif not find_committed(self._path, self._group.app_id, [request.request_id]):
            raise table_exists(request.table)

    def _check_unread(self) -> None:
        """Make sure that nobody reads a version of its own choice: Spark's vacuum keeps none."""
        if versions := self._group.read_versions:
            raise TransientError(
                f"table {self._group.table}: versions {', '.join(map(str, versions))} are being "
                "read; the vacuum waits for that",
                table=self._group.table,
            )

    def _existing(self) -> Snapshot:
        if self._snapshot is None:
            raise self._lake.missing(self._group.table)
        return self._snapshot

    def _append(self, request: Append) -> None:
        partitions = self._partitions(request)
        evolves, schema = self._evolved(request)
        with self._frame(schema) as frame:
            self._check_required(frame)
            spark_commands.append(frame, self._path, partitions, evolves=evolves)

    def _overwrite(self, request: Overwrite) -> None:
        partitions = self._partitions(request)
        evolves, schema = self._evolved(request)
        with self._frame(schema) as frame:
            self._check_required(frame)
            if request.where is None:
                spark_commands.overwrite(frame, self._path, partitions, evolves=evolves)
            elif self._snapshot:
                prepare(self._session, request.where, self._snapshot.schema)
                spark_commands.overwrite_where(frame, self._path, request.where, evolves=evolves)
            else:
                prepare(self._session, request.where, arrow_schema(frame.schema.json()))
                spark_commands.check_all(frame, request)
                spark_commands.append(frame, self._path, partitions)

    def _merge(self, request: Merge) -> None:
        snapshot, staged = self._snapshot, self._staged
        columns = staged_schema(staged[0])
        table = snapshot.schema if snapshot else None
        check_keys_present(columns, table, request.keys, name=request.table)
        several = len(staged) > 1
        if not several:
            check_unique_keys(staged, request.keys, name=request.table)
        extra: frozenset[str] = frozenset()
        if request.delete_when is not None:
            extra = columns_in(request.delete_when, columns, what="delete_when")
        if not request.insert:
            self._existing()
        partitions = self._partitions(request)
        evolves, schema = self._evolved(request, extra)
        keys = request.keys if several else ()
        joined = snapshot is not None
        with self._frame(schema, extra_allowed=extra, keys=keys, joined=joined) as frame:
            if snapshot is None or schema is None:
                spark_commands.insert_all(frame, self._path, partitions, request.delete_when)
                return
            optional = snapshot.filled_columns.difference(columns.names)
            needed = [c for c in schema.names if c not in optional]
            update = columns_to_update(request, columns.names, needed)
            if request.insert:
                self._check_required(frame)
            spark_commands.merge(
                self._session, frame, self._path, request, update, schema.names, evolves=evolves
            )

    def _merge_scd2(self, request: MergeScd2) -> None:
        snapshot, staged = self._snapshot, staged_schema(self._staged[0])
        table = snapshot.schema if snapshot else None
        check_keys_present(staged, table, request.keys, name=request.table)
        check_unique_keys(self._staged, request.keys, name=request.table)
        partitions = self._partitions(request)
        versions = scd2.versions_of(request, staged, table)
        rows = pa.Table.from_batches(fitted_batches(self._staged, versions.frame), versions.frame)
        if snapshot is None:
            begun = scd2.first_versions(versions, rows)
            with table_frame(self._session, self._work, begun) as frame:
                spark_commands.append(frame, self._path, partitions)
            return
        with table_frame(self._session, self._work, rows, joined=True) as frame:
            current = spark_commands.current_versions(frame, self._path, versions)
        source = scd2.merge_source(versions, rows, current)
        if source.num_rows:
            with table_frame(self._session, self._work, source, joined=True) as frame:
                spark_commands.merge_versions(self._session, frame, self._path, versions)

    def _evolved(
        self, request: FrameRequest, delete_columns: frozenset[str] = frozenset()
    ) -> tuple[bool, pa.Schema | None]:
        """Tell whether the table's columns change, and which it will have; None for a new one."""
        snapshot = self._snapshot
        if snapshot is None:
            return False, None
        schema = evolve(
            request,
            staged_schema(self._staged[0]),
            snapshot.schema,
            features=snapshot.features,
            widening=snapshot.properties.get(WIDENING) == "true",
            delete_columns=delete_columns,
        )
        return schema != snapshot.schema, schema

    def _check_required(self, frame: DataFrame) -> None:
        if self._snapshot:
            check_required(self._snapshot.required, frame.columns, name=self._group.table)

    def _partitions(self, request: FrameRequest) -> tuple[str, ...]:
        """Return the partitions that the table has or will have.

        Raises:
            SchemaMismatch: It has others than the request says, or a value makes no folder.
            InvalidFrame: It cannot have these.
        """
        staged = staged_schema(self._staged[0])
        if self._snapshot is None:
            check_new_partitions(request, fit_schema(staged, None, name=request.table))
            partitions = request.partition_by or ()
        else:
            check_partitions(request, self._snapshot.partition_by)
            partitions = self._snapshot.partition_by
        texts = [c for c in partitions if c in staged.names and is_text(staged.field(c).type)]
        if texts:
            batches = fitted_batches(self._staged, pa.schema([(c, pa.string()) for c in texts]))
            for _ in check_partition_values(batches, texts, name=request.table):
                pass
        return partitions

    def _frame(
        self,
        schema: pa.Schema | None,
        *,
        extra_allowed: frozenset[str] = frozenset(),
        keys: tuple[str, ...] = (),
        joined: bool = False,
    ) -> AbstractContextManager[DataFrame]:
        return staged_frame(
            self._session,
            self._work,
            self._staged,
            schema,
            name=self._group.table,
            extra_allowed=extra_allowed,
            keys=keys,
            joined=joined,
        )

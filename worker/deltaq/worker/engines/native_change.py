"""How the native engine turns a group of requests into one Delta commit."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.types as pt
from deltalake import (
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    QueryBuilder,
    Transaction,
    WriterProperties,
    write_deltalake,
)

from deltaq.tasks.errors import ConstraintViolated, DeltaqError
from deltaq.tasks.request import Append, Delete, FrameRequest, Merge, Overwrite
from deltaq.tasks.settings import MiB
from deltaq.tasks.staging import StagingArea, open_staged
from deltaq.worker import ledger
from deltaq.worker.engines import NotNative, RowCounts
from deltaq.worker.engines.coalesce import last_rows
from deltaq.worker.engines.columns import (
    check_new_partitions,
    check_partition_values,
    check_partitions,
    check_required,
    columns_to_update,
    outside_where,
)
from deltaq.worker.engines.delta_types import delta_name
from deltaq.worker.engines.fit import (
    check_keys_present,
    check_unique_keys,
    fit_schema,
    fitted_batches,
)
from deltaq.worker.engines.handles import Handle
from deltaq.worker.engines.native_errors import native_errors
from deltaq.worker.engines.native_limits import check_partition_types
from deltaq.worker.engines.native_rules import broken_rule
from deltaq.worker.expressions import columns_in, translate
from deltaq.worker.groups import CommitGroup

#: One file per partition and commit; a group is smaller, and larger work is Spark's.
_FILE_BYTES = 4096 * MiB
#: A dictionary of a column of many values costs a quarter of a merge, and makes larger files;
#: past this many bytes delta-rs goes on without one. Compression is what it does by default.
_FORMAT = WriterProperties(compression="SNAPPY", dictionary_page_size_limit=64 * 1024)
#: A checkpoint or a clean-up within a commit would hold up whoever waits for it.
_NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


class Change:
    """One group on its way into one commit.

    Args:
        group: What to commit.
        handle: The table, at its newest version, or what will be one.
        staging: Where the staged files are.
    """

    def __init__(self, group: CommitGroup, handle: Handle, staging: StagingArea) -> None:
        self._group = group
        self._handle = handle
        self._staging = staging
        self._paths = [staging.request_path(r.table, r.request_id) for r in group.requests]
        self._failure: DeltaqError | None = None

    def perform(self) -> tuple[RowCounts, ...]:
        """Commit the group; what each member did, in order.

        Raises:
            RequestError, TransientError: As ``Engine.apply`` says.
            NotNative: This is for Spark.
        """
        try:
            with native_errors(self._group.table):
                return self._perform()
        except Exception as exc:
            # delta-rs makes text of what our own batches raised.
            if self._failure is not None:
                raise self._failure from None
            if isinstance(exc, ConstraintViolated) and "validation check" in exc.message:
                raise broken_rule(self._handle, self._group, self._paths) from exc
            raise

    def _perform(self) -> tuple[RowCounts, ...]:
        request = self._group.first
        if isinstance(request, Append):
            self._append(request)
            rows = [r.rows for r in self._group.requests if isinstance(r, Append)]
            return tuple(RowCounts(inserted=n) for n in rows)
        if isinstance(request, Overwrite):
            deleted = self._overwrite(request)
            return (RowCounts(inserted=request.rows, deleted=deleted),)
        if isinstance(request, Merge):
            counts = self._merge(request)
            # Of several merges in one commit, none can tell which rows were its own.
            return (counts,) if len(self._paths) == 1 else (RowCounts(),) * len(self._paths)
        return (self._delete(request),)

    def _append(self, request: Append) -> None:
        if self._handle.table is None:
            self._create(request)
            return
        self._write(self._rows_for_table(request), mode="append")

    def _overwrite(self, request: Overwrite) -> int | None:
        """Replace rows; the number of those that are gone, where only some are replaced."""
        if self._handle.table is None:
            self._check_inside(request)
            self._create(request)
            return None
        rows = self._rows_for_table(request)
        if request.where is None:
            self._write(rows, mode="overwrite")
            return None
        where = translate(request.where, self._handle.schema, what="where")
        before = _count(self._handle.existing())
        self._write(rows, mode="overwrite", predicate=where)
        after = _count(self._handle.existing())
        return None if before is None or after is None else before + request.rows - after

    def _check_inside(self, request: Overwrite) -> None:
        """Check what delta-rs does only for a table that is there: all rows satisfy where."""
        if request.where is None:
            return
        fitted = fit_schema(self._staged_schema(), None, name=request.table)
        outside = f"({translate(request.where, fitted, what='where')}) IS NOT TRUE"
        with self._filtered(fitted, self._batches(request, fitted), outside) as rows:
            if any(batch.num_rows for batch in rows):
                raise outside_where(request)

    def _delete(self, request: Delete) -> RowCounts:
        table = self._handle.existing()
        before = table.version()
        metrics = table.delete(
            translate(request.where, self._handle.schema, what="where"),
            commit_properties=self._properties(),
            post_commithook_properties=_NO_HOOKS,
            writer_properties=_FORMAT,
        )
        self._commit_if_unchanged(before)
        return RowCounts(deleted=metrics.get("num_deleted_rows"))

    def _merge(self, request: Merge) -> RowCounts:
        schema = self._handle.schema if self._handle.table else None
        frame = self._staged_schema()
        check_keys_present(frame, schema, request.keys, name=request.table)
        if len(self._paths) == 1:
            check_unique_keys(self._paths, request.keys, name=request.table)
        extra: frozenset[str] = frozenset()
        if request.delete_when is not None:
            extra = columns_in(request.delete_when, frame, what="delete_when")
        fitted = fit_schema(frame, schema, name=request.table, extra_allowed=extra)
        if schema is None:
            if not request.insert:
                self._handle.existing()
            return self._create(request)
        for key in request.keys:
            if pt.is_floating(schema.field(key).type):
                # Its NaN and -0.0 are not those of Spark, least of all in its statistics.
                raise NotNative(f"key column {key!r} is a {delta_name(schema.field(key).type)}")
        check_partitions(request, self._handle.existing().metadata().partition_columns)
        update = columns_to_update(request, frame.names, schema.names)
        if request.insert:
            check_required(schema, frame.names, name=request.table)
        return self._merge_rows(request, fitted, update, schema)

    def _merge_rows(
        self, request: Merge, fitted: pa.Schema, update: list[str], schema: pa.Schema
    ) -> RowCounts:
        table = self._handle.existing()
        before = table.version()
        # Read before delta-rs asks for it, which panics when that fails.
        rows = pa.Table.from_batches(self._watched(self._batches(request, fitted)), fitted)
        merger = table.merge(
            rows,
            " AND ".join(f"target.{_quoted(k)} = source.{_quoted(k)}" for k in request.keys),
            source_alias="source",
            target_alias="target",
            # The source is small; known whole, it tells which of the table's files to leave out.
            streamed_exec=False,
            commit_properties=self._properties(),
            post_commithook_properties=_NO_HOOKS,
            writer_properties=_FORMAT,
        )
        kept = None
        if request.delete_when is not None:
            deleted = translate(request.delete_when, fitted, what="delete_when", qualifier="source")
            merger = merger.when_matched_delete(deleted)
            kept = f"({deleted}) IS NOT TRUE"
        if update:
            values = {f"target.{_quoted(c)}": f"source.{_quoted(c)}" for c in update}
            merger = merger.when_matched_update(values)
        if request.insert:
            values = {
                f"target.{_quoted(c)}": f"source.{_quoted(c)}"
                for c in fitted.names
                if c in schema.names
            }
            merger = merger.when_not_matched_insert(values, predicate=kept)
        metrics = merger.execute()
        self._commit_if_unchanged(before)
        return RowCounts(
            inserted=metrics["num_target_rows_inserted"],
            updated=metrics["num_target_rows_updated"],
            deleted=metrics["num_target_rows_deleted"],
        )

    def _create(self, request: FrameRequest) -> RowCounts:
        """Create the table with the rows of the group, as its first commit."""
        fitted = fit_schema(self._staged_schema(), None, name=request.table)
        check_new_partitions(request, fitted)
        check_partition_types(fitted, request.partition_by or ())
        batches = self._batches(request, fitted)
        with contextlib.ExitStack() as stack:
            if isinstance(request, Merge) and request.delete_when is not None:
                kept = f"({translate(request.delete_when, fitted, what='delete_when')}) IS NOT TRUE"
                batches = stack.enter_context(self._filtered(fitted, batches, kept))
            counted = _Counted(batches)
            write_deltalake(
                str(self._handle.path),
                self._reader(fitted, counted),
                mode="error",
                partition_by=list(request.partition_by or ()),
                target_file_size=_FILE_BYTES,
                commit_properties=self._properties(),
                post_commithook_properties=_NO_HOOKS,
                writer_properties=_FORMAT,
            )
        return RowCounts(inserted=counted.rows, updated=0, deleted=0)

    def _batches(self, request: FrameRequest, fitted: pa.Schema) -> Iterator[pa.RecordBatch]:
        if isinstance(request, Merge) and len(self._paths) > 1:
            batches = last_rows(self._paths, fitted, request.keys, name=request.table)
        else:
            batches = fitted_batches(self._paths, fitted)
        table = self._handle.table
        partitions = table.metadata().partition_columns if table else request.partition_by
        return check_partition_values(batches, partitions or (), name=request.table)

    @contextlib.contextmanager
    def _filtered(
        self, schema: pa.Schema, batches: Iterator[pa.RecordBatch], condition: str
    ) -> Iterator[Iterator[pa.RecordBatch]]:
        """Filter batches by a condition in DataFusion's SQL, which delta-rs has for tables only."""
        folder = self._staging.new_work_path()
        try:
            write_deltalake(str(folder), self._reader(schema, batches))
            query = f"SELECT * FROM staged WHERE {condition}"
            found = QueryBuilder().register("staged", DeltaTable(str(folder))).execute(query)
            yield (
                pa.record_batch(batch).cast(schema)
                for batch in pa.RecordBatchReader.from_stream(found)
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _rows_for_table(self, request: FrameRequest) -> pa.RecordBatchReader:
        """Read the group's rows with all of the table's columns, missing ones null."""
        schema = self._handle.schema
        check_partitions(request, self._handle.existing().metadata().partition_columns)
        fitted = fit_schema(self._staged_schema(), schema, name=request.table)
        check_required(schema, fitted.names, name=request.table)
        batches = self._batches(request, fitted)
        if len(fitted) == len(schema):
            return self._reader(fitted, batches)
        whole = fit_schema(schema, schema, name=request.table)
        return self._reader(whole, (_completed(batch, whole) for batch in batches))

    def _write(self, rows: pa.RecordBatchReader, **options: Any) -> None:
        write_deltalake(
            self._handle.existing(),
            rows,
            target_file_size=_FILE_BYTES,
            commit_properties=self._properties(),
            post_commithook_properties=_NO_HOOKS,
            writer_properties=_FORMAT,
            **options,
        )

    def _commit_if_unchanged(self, before: int) -> None:
        """Advance the ledger by an empty commit when there was nothing to change."""
        if self._handle.existing().version() == before:
            whole = fit_schema(self._handle.schema, self._handle.schema, name=self._group.table)
            self._write(self._reader(whole, iter(())), mode="append")

    def _reader(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(schema, self._watched(batches))

    def _watched(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        try:
            yield from batches
        except DeltaqError as exc:
            self._failure = exc
            raise

    def _staged_schema(self) -> pa.Schema:
        with open_staged(self._paths[0]) as file:
            return file.schema_arrow

    def _properties(self) -> CommitProperties:
        moved = Transaction(self._group.app_id, self._group.sequence, int(time.time() * 1000))
        return CommitProperties(
            custom_metadata={"userMetadata": ledger.note(self._group)},
            app_transactions=[moved],
            max_commit_retries=0,
        )


class _Counted:
    """Batches that count their rows as they pass."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self.rows = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._batches:
            self.rows += batch.num_rows
            yield batch


def _completed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Put a batch's columns in a schema's order, with nulls for those that it lacks."""
    present = set(batch.schema.names)
    columns = [
        batch.column(f.name) if f.name in present else pa.nulls(batch.num_rows, f.type)
        for f in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _count(table: DeltaTable) -> int | None:
    """Count a table's rows by its log, if that tells."""
    if "deletionVectors" in (table.protocol().writer_features or ()):
        return None
    rows = pa.chunked_array(pa.table(table.get_add_actions())["num_records"])
    return None if rows.null_count else sum(rows.to_pylist())


def _quoted(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'

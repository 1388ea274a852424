"""How the native engine turns a group of requests into one Delta commit."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
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
from deltalake.table import TableMerger

from deltaq.tasks.errors import ConstraintViolated, DeltaqError
from deltaq.tasks.request import (
    Append,
    Create,
    Delete,
    FrameRequest,
    Merge,
    MergeScd2,
    Overwrite,
    TableChange,
)
from deltaq.tasks.settings import MiB
from deltaq.tasks.staging import StagingArea, open_staged
from deltaq.worker import ledger
from deltaq.worker.engines import NotNative, RowCounts, native_verbs, scd2
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
from deltaq.worker.engines.evolve import evolve
from deltaq.worker.engines.fit import (
    check_keys_present,
    check_unique_keys,
    fit_schema,
    fitted_batches,
)
from deltaq.worker.engines.handles import Handle
from deltaq.worker.engines.native_errors import native_errors
from deltaq.worker.engines.native_limits import check_evolvable, check_partition_types, features
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
        match self._group.first:
            case Append() as request:
                self._append(request)
                rows = [r.rows for r in self._group.requests if isinstance(r, Append)]
                return tuple(RowCounts(inserted=n) for n in rows)
            case Overwrite() as request:
                deleted = self._overwrite(request)
                return (RowCounts(inserted=request.rows, deleted=deleted),)
            case Merge() as request:
                counts = self._merge(request)
                # Of several merges in one commit, none can tell which rows were its own.
                return (counts,) if len(self._paths) == 1 else (RowCounts(),) * len(self._paths)
            case MergeScd2() as request:
                return (self._merge_scd2(request),)
            case Delete() as request:
                return (self._delete(request),)
            case Create() as request:
                native_verbs.create(self._handle, request, **self._commit())
            case request if isinstance(request, TableChange):
                before = self._handle.existing().version()
                native_verbs.change(self._handle, request, **self._commit())
                self._commit_if_unchanged(before)
        return (RowCounts(),)

    def _append(self, request: Append) -> None:
        if self._handle.table is None:
            self._create(request)
            return
        self._write_frame(request, mode="append")

    def _overwrite(self, request: Overwrite) -> int | None:
        """Replace rows; the number of those that are gone, where only some are replaced."""
        if self._handle.table is None:
            self._check_inside(request)
            self._create(request)
            return None
        if request.where is None:
            self._write_frame(request, mode="overwrite")
            return None
        where = translate(request.where, self._handle.schema, what="where")
        before = _count(self._handle.existing())
        self._write_frame(request, mode="overwrite", predicate=where)
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
            writer_properties=_FORMAT,
            **self._commit(),
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
        if schema is None:
            fit_schema(frame, None, name=request.table)
            if not request.insert:
                self._handle.existing()
            return self._create(request)
        if self._evolved(request, extra) != schema:
            raise NotNative(
                "a merge that adds columns; add_column adds them before, on native as well"
            )
        fitted = fit_schema(frame, schema, name=request.table, extra_allowed=extra)
        self._check_keys(request.keys)
        check_partitions(request, self._handle.existing().metadata().partition_columns)
        update = columns_to_update(request, frame.names, schema.names)
        if request.insert:
            check_required(schema, frame.names, name=request.table)
        return self._merge_rows(request, fitted, update, schema)

    def _merge_rows(
        self, request: Merge, fitted: pa.Schema, update: list[str], schema: pa.Schema
    ) -> RowCounts:
        # Read before delta-rs asks for it, which panics when that fails.
        rows = pa.Table.from_batches(self._watched(self._batches(request, fitted)), fitted)
        merger = self._merger(rows, _match(request.keys, request.keys))
        kept = None
        if request.delete_when is not None:
            deleted = translate(request.delete_when, fitted, what="delete_when", qualifier="source")
            merger = merger.when_matched_delete(deleted)
            kept = f"({deleted}) IS NOT TRUE"
        if update:
            merger = merger.when_matched_update(_values(update))
        if request.insert:
            values = _values(c for c in fitted.names if c in schema.names)
            merger = merger.when_not_matched_insert(values, predicate=kept)
        return self._execute(merger)

    def _merge_scd2(self, request: MergeScd2) -> RowCounts:
        schema = self._handle.schema if self._handle.table else None
        staged, keys = self._staged_schema(), request.keys
        check_keys_present(staged, schema, keys, name=request.table)
        check_unique_keys(self._paths, keys, name=request.table)
        versions = scd2.versions_of(request, staged, schema)
        rows = pa.Table.from_batches(self._batches(request, versions.frame), versions.frame)
        if schema is None:
            begun = scd2.first_versions(versions, rows)
            return self._create_from(request, versions.table, iter(begun.to_batches()))
        self._check_keys(keys)
        check_partitions(request, self._handle.existing().metadata().partition_columns)
        source = scd2.merge_source(versions, rows, self._current_versions(versions, rows))
        if source.num_rows == 0:
            self._commit_if_unchanged(self._handle.existing().version())
            return RowCounts(inserted=0, updated=0, deleted=0)
        matched = [scd2.match_column(place) for place in range(len(keys))]
        is_current = f"target.{_quoted(request.is_current)}"
        merger = self._merger(source, f"{_match(keys, matched)} AND {is_current}")
        merger = merger.when_matched_update(_values([request.valid_to, request.is_current]))
        begins = f"source.{_quoted(matched[0])} IS NULL"
        return self._execute(
            merger.when_not_matched_insert(_values(versions.table.names), predicate=begins)
        )

    def _current_versions(self, versions: scd2.Versions, rows: pa.Table) -> pa.Table:
        """Read the current versions of the keys in a frame, a batch at a time."""
        request = versions.request
        schema = pa.schema([versions.table.field(name) for name in versions.compared])
        columns = ", ".join(map(_quoted, schema.names))
        query = f"SELECT {columns} FROM versions WHERE {_quoted(request.is_current)}"
        found = QueryBuilder().register("versions", self._handle.existing()).execute(query)
        batches = (
            pa.Table.from_batches([batch]).cast(schema)
            for batch in pa.RecordBatchReader.from_stream(found)
        )
        matching = [scd2.matching(batch, rows, request.keys) for batch in batches]
        return pa.concat_tables([schema.empty_table(), *matching])

    def _check_keys(self, keys: Sequence[str]) -> None:
        for key in keys:
            kind = self._handle.schema.field(key).type
            if pt.is_floating(kind):
                # Its NaN and -0.0 are not those of Spark, least of all in its statistics.
                raise NotNative(f"key column {key!r} is a {delta_name(kind)}")

    def _merger(self, rows: pa.Table, condition: str) -> TableMerger:
        return self._handle.existing().merge(
            rows,
            condition,
            source_alias="source",
            target_alias="target",
            # The source is small; known whole, it tells which of the table's files to leave out.
            streamed_exec=False,
            writer_properties=_FORMAT,
            **self._commit(),
        )

    def _execute(self, merger: TableMerger) -> RowCounts:
        before = self._handle.existing().version()
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
        batches = self._batches(request, fitted)
        with contextlib.ExitStack() as stack:
            if isinstance(request, Merge) and request.delete_when is not None:
                kept = f"({translate(request.delete_when, fitted, what='delete_when')}) IS NOT TRUE"
                batches = stack.enter_context(self._filtered(fitted, batches, kept))
            return self._create_from(request, fitted, batches)

    def _create_from(
        self, request: FrameRequest, schema: pa.Schema, batches: Iterator[pa.RecordBatch]
    ) -> RowCounts:
        check_new_partitions(request, schema)
        check_partition_types(schema, request.partition_by or ())
        counted = _Counted(batches)
        write_deltalake(
            str(self._handle.path),
            self._reader(schema, counted),
            mode="error",
            partition_by=list(request.partition_by or ()),
            target_file_size=_FILE_BYTES,
            writer_properties=_FORMAT,
            **self._commit(),
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

    def _write_frame(self, request: Append | Overwrite, **options: Any) -> None:
        """Write the group's rows with all of the table's columns, missing ones null."""
        table, schema = self._handle.existing(), self._handle.schema
        partitions = table.metadata().partition_columns
        check_partitions(request, partitions)
        evolved = self._evolved(request)
        fitted = fit_schema(self._staged_schema(), evolved, name=request.table)
        check_required(schema, fitted.names, name=request.table)
        batches = self._batches(request, fitted)
        if evolved == schema:
            whole = fit_schema(schema, schema, name=request.table)
        else:
            check_evolvable(table)
            if partitions:
                raise NotNative("new columns of a partitioned table, which it would reorder")
            # Columns that may be null in the frame could be so in the table from then on.
            whole = evolved
            batches = self._never_null(batches)
            options["schema_mode"] = "merge"
        if len(fitted) < len(whole) or whole is evolved:
            batches = (_completed(batch, whole) for batch in batches)
        self._write(self._reader(whole, batches), **options)

    def _evolved(
        self, request: FrameRequest, delete_columns: frozenset[str] = frozenset()
    ) -> pa.Schema:
        """Say which columns the table will have; delta-rs reads none that can be widened."""
        return evolve(
            request,
            self._staged_schema(),
            self._handle.schema,
            features=features(self._handle.existing()),
            widening=False,
            delete_columns=delete_columns,
        )

    def _never_null(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        required = [field.name for field in self._handle.schema if not field.nullable]
        for batch in batches:
            if any(batch.column(name).null_count for name in required):
                raise broken_rule(self._handle, self._group, self._paths)
            yield batch

    def _write(self, rows: pa.RecordBatchReader, **options: Any) -> None:
        write_deltalake(
            self._handle.existing(),
            rows,
            target_file_size=_FILE_BYTES,
            writer_properties=_FORMAT,
            **self._commit(),
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

    def _commit(self) -> dict[str, Any]:
        """Make the arguments by which a commit moves the ledger, or is none."""
        moved = Transaction(self._group.app_id, self._group.sequence, int(time.time() * 1000))
        properties = CommitProperties(
            custom_metadata={"userMetadata": ledger.note(self._group)},
            app_transactions=[moved],
            max_commit_retries=0,
        )
        return {"commit_properties": properties, "post_commithook_properties": _NO_HOOKS}


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


def _match(keys: Sequence[str], columns: Sequence[str]) -> str:
    pairs = zip(keys, columns, strict=True)
    return " AND ".join(f"target.{_quoted(k)} = source.{_quoted(c)}" for k, c in pairs)


def _values(columns: Iterable[str]) -> dict[str, str]:
    return {f"target.{_quoted(c)}": f"source.{_quoted(c)}" for c in columns}


def _quoted(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'

"""How the native engine turns a group of requests into one Delta commit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from deltaq.tasks.errors import ConstraintViolated
from deltaq.tasks.request import (
    Append,
    Convert,
    Create,
    Delete,
    Maintenance,
    Merge,
    MergeScd2,
    Overwrite,
    TableChange,
)
from deltaq.tasks.slices import Slices
from deltaq.worker import ledger
from deltaq.worker.engines import (
    NotNative,
    RowCounts,
    native_maintenance,
    native_verbs,
)
from deltaq.worker.engines.columns import check_partitions, check_required, outside_where
from deltaq.worker.engines.fit import fit_schema
from deltaq.worker.engines.native_commit import FORMAT
from deltaq.worker.engines.native_errors import native_errors
from deltaq.worker.engines.native_limits import check_evolvable
from deltaq.worker.engines.native_merge import Merges
from deltaq.worker.engines.native_rules import broken_rule
from deltaq.worker.expressions import translate


class Change(Merges):
    """A group of any operation; see :class:`GroupCommit`.

    Attributes:
        value: What the outcome tells besides counts.
        more: Set when this was a slice of a request of which more is to do.
    """

    value: Any = None
    more: Slices | None = None

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
            case Convert() as request:
                native_verbs.convert(self._handle, request, **self._commit())
            case request if isinstance(request, Maintenance):
                self._maintain(request)
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
            writer_properties=FORMAT,
            **self._commit(),
        )
        self._commit_if_unchanged(before)
        return RowCounts(deleted=metrics.get("num_deleted_rows"))

    def _maintain(self, request: Maintenance) -> None:
        done = native_maintenance.maintain(
            self._handle,
            request,
            begun=self._group.begun,
            told=ledger.note(self._group, unmoved=True),
            new_folder=self._staging.new_work_path,
            keep_versions=self._group.read_versions,
            matching=lambda partitions: self._matching(request, partitions),
        )
        self.value, self.more = done.value, done.more
        if self.more is not None:
            return
        # Meanwhile somebody else may have come and gone, whose commits are now in the handle.
        if self._group.is_late(reached := self._handle.ledger(self._group.app_id)):
            raise ledger.moved(self._group, reached)
        self._advance_ledger()

    def _matching(self, request: Maintenance, partitions: pa.Table) -> pa.Table:
        """Choose the partitions of which an optimize's condition holds."""
        where = getattr(request, "where", None)
        condition = translate(str(where), self._handle.schema, what="where")
        with self._filtered(partitions.schema, iter(partitions.to_batches()), condition) as found:
            return pa.Table.from_batches(found, partitions.schema)

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

    def _never_null(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        required = [field.name for field in self._handle.schema if not field.nullable]
        for batch in batches:
            if any(batch.column(name).null_count for name in required):
                raise broken_rule(self._handle, self._group, self._paths)
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

"""Merges by the native engine: of rows, and of versions of rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.types as pt
from deltalake import QueryBuilder
from deltalake.table import TableMerger

from deltaq.tasks.request import Merge, MergeScd2
from deltaq.worker.engines import NotNative, RowCounts, scd2
from deltaq.worker.engines.columns import check_partitions, check_required, columns_to_update
from deltaq.worker.engines.delta_types import delta_name
from deltaq.worker.engines.fit import check_keys_present, check_unique_keys, fit_schema
from deltaq.worker.engines.native_commit import FORMAT, GroupCommit
from deltaq.worker.expressions import columns_in, translate


class Merges(GroupCommit):
    """A group that merges."""

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
            writer_properties=FORMAT,
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


def _match(keys: Sequence[str], columns: Sequence[str]) -> str:
    pairs = zip(keys, columns, strict=True)
    return " AND ".join(f"target.{_quoted(k)} = source.{_quoted(c)}" for k, c in pairs)


def _values(columns: Iterable[str]) -> dict[str, str]:
    return {f"target.{_quoted(c)}": f"source.{_quoted(c)}" for c in columns}


def _quoted(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'

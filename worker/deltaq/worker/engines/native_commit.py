"""What every commit of the native engine is made of: staged rows in, one log entry out."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
from deltalake import (
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    QueryBuilder,
    Transaction,
    WriterProperties,
    write_deltalake,
)

from deltaq.tasks.errors import DeltaqError
from deltaq.tasks.location import Location
from deltaq.tasks.request import FrameRequest, Merge
from deltaq.tasks.settings import MiB
from deltaq.tasks.staging import StagingArea, open_staged
from deltaq.worker import ledger
from deltaq.worker.engines import RowCounts
from deltaq.worker.engines.coalesce import last_rows
from deltaq.worker.engines.columns import check_new_partitions, check_partition_values
from deltaq.worker.engines.evolve import evolve
from deltaq.worker.engines.fit import fit_schema, fitted_batches
from deltaq.worker.engines.handles import Handle
from deltaq.worker.engines.native_limits import check_partition_types, features
from deltaq.worker.engines.urls import storage_options
from deltaq.worker.expressions import translate
from deltaq.worker.groups import CommitGroup

#: One file per partition and commit; a group is smaller, and larger work is Spark's.
_FILE_BYTES = 4096 * MiB
#: A dictionary of a column of many values costs a quarter of a merge, and makes larger files;
#: past this many bytes delta-rs goes on without one. Compression is what it does by default.
FORMAT = WriterProperties(compression="SNAPPY", dictionary_page_size_limit=64 * 1024)
#: For what is rewritten: compressed as delta-rs compacts. Without the large dictionaries that takes
#: a third less time, and files are smaller.
DENSE = WriterProperties(
    compression="ZSTD", compression_level=4, dictionary_page_size_limit=64 * 1024
)
#: A checkpoint or a clean-up within a commit would hold up whoever waits for it.
NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


class GroupCommit:
    """One group on its way into one commit.

    Args:
        group: What to commit.
        handle: The table, at its newest version, or what will be one.
        staging: Where engines may put down files.
        paths: The staged files of the group, in order.
    """

    def __init__(
        self, group: CommitGroup, handle: Handle, staging: StagingArea, paths: Sequence[Location]
    ) -> None:
        self._group = group
        self._handle = handle
        self._staging = staging
        self._paths = paths
        self._failure: DeltaqError | None = None

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
            table_or_uri=str(self._handle.path),
            data=self._reader(schema, counted),
            mode="error",
            partition_by=list(request.partition_by or ()),
            target_file_size=_FILE_BYTES,
            writer_properties=FORMAT,
            storage_options=storage_options(self._handle.path),
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

    def _write(self, rows: pa.RecordBatchReader, **options: Any) -> None:
        write_deltalake(
            self._handle.existing(),
            rows,
            target_file_size=_FILE_BYTES,
            writer_properties=FORMAT,
            **self._commit(),
            **options,
        )

    def _commit_if_unchanged(self, before: int) -> None:
        if self._handle.existing().version() == before:
            self._advance_ledger()

    def _advance_ledger(self) -> None:
        """Commit nothing but the ledger and the note: an append without rows."""
        whole = fit_schema(self._handle.schema, self._handle.schema, name=self._group.table)
        self._write(self._reader(whole, iter(())), mode="append")

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
        return commit_options(self._group)


def commit_options(group: CommitGroup) -> dict[str, Any]:
    """Make the arguments by which a commit of delta-rs moves the ledger, or is none."""
    moved = Transaction(group.app_id, group.sequence, int(time.time() * 1000))
    properties = CommitProperties(
        custom_metadata={"userMetadata": ledger.note(group)},
        app_transactions=[moved],
        max_commit_retries=0,
    )
    return {"commit_properties": properties, "post_commithook_properties": NO_HOOKS}


class _Counted:
    """Batches that count their rows as they pass."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self.rows = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._batches:
            self.rows += batch.num_rows
            yield batch

"""The engine for small and medium work: delta-rs, in this process, in milliseconds."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder

from deltaq.tasks.errors import DeltaqError
from deltaq.tasks.location import fetch
from deltaq.tasks.policy import Policy
from deltaq.tasks.query import Read, Sql
from deltaq.tasks.request import EngineName, TableChange, Vacuum
from deltaq.tasks.staging import StagingArea
from deltaq.worker import ledger
from deltaq.worker.durable import sync_commit
from deltaq.worker.engines import (
    Commit,
    NotNative,
    Parts,
    native_maintenance,
    native_reads,
)
from deltaq.worker.engines.asked import Most
from deltaq.worker.engines.handles import Handles
from deltaq.worker.engines.native_change import Change
from deltaq.worker.engines.native_errors import native_errors
from deltaq.worker.engines.native_limits import check_writable, maps_columns
from deltaq.worker.engines.native_partitions import largest_piece, partitions
from deltaq.worker.engines.native_sql import translate_select
from deltaq.worker.engines.urls import open_table
from deltaq.worker.groups import CommitGroup
from deltaq.worker.lake import Lake
from deltaq.worker.maintenance.wishes import TIERS, Survey
from deltaq.worker.selects import parse_select

logger = logging.getLogger(__name__)

_CLEANS = "delta.enableExpiredLogCleanup"


#: Seconds for which a look at a log in S3 will do for a commit.
_TRUSTED = 1.0


class NativeEngine:
    """Performs requests with delta-rs; see ``Engine`` for what each method promises.

    Every method may raise ``NotNative``: the table, or an expression, is for Spark.

    Args:
        lake: Where the tables are.
        staging: Where the staged files are.
        policy: That of tables that have none of their own; of it the checkpoints are made here.
    """

    name: EngineName = "native"

    def __init__(self, lake: Lake, staging: StagingArea, *, policy: Policy | None = None) -> None:
        self._lake = lake
        self._staging = staging
        self._handles = Handles(lake, policy or Policy())

    def ledger(self, table: str, app_id: str) -> int:
        """Read the last committed sequence from the table's newest version; -1 for none."""
        # Whoever takes a lease does this first.
        with self._handles.use(table, alone=False) as handle:
            return handle.ledger(app_id)

    def apply(self, group: CommitGroup) -> Commit:
        """Make one Delta commit of a group: its data and its ledger, or nothing.

        It is durable when this returns.
        """
        paths = [self._staging.request_path(r.table, r.request_id) for r in group.requests]
        fetch(paths)
        # A vacuum removes files before it commits anything: no conflict would stop it.
        trusted = 0.0 if isinstance(group.first, Vacuum) else _TRUSTED
        with self._handles.use(group.table, trusted=trusted) as handle:
            # delta-rs never skips: it would commit the same sequence twice.
            if group.is_late(reached := handle.ledger(group.app_id)):
                raise ledger.moved(group, reached)
            if handle.table is not None:
                check_writable(handle.table, handle.schema)
            change = Change(group, handle, self._staging, paths)
            counts = change.perform()
            if change.more is not None:
                version = handle.existing().version()
                return Commit(version=version, counts=counts, more=change.more)
            version = handle.advanced(group.app_id, group.sequence)
            sync_commit(handle.path, version)
            if isinstance(group.first, TableChange):  # of its policy, perhaps
                handle.forget()
        return Commit(version=version, counts=counts, value=change.value)

    def read(self, query: Read, destination: Path) -> tuple[int, int]:
        """Write the rows a query asks for as an Arrow file into a new folder."""
        with self._handles.use(query.table) as handle:
            found = native_reads.find_rows(native_reads.at_version(handle, query), query)
        with native_errors(query.table):
            return found.version, native_reads.write_rows(found, destination)

    def scan(self, query: Read, parts: Parts) -> int:
        """Write the rows a query asks for as they are read, and return the table's version."""
        with self._handles.use(query.table) as handle:
            found = native_reads.find_rows(native_reads.at_version(handle, query), query)
        with native_errors(query.table):
            for batch in native_reads.plain_batches(found):
                parts.write(batch)
            parts.flush(found.schema)
        return found.version

    def sql(self, query: Sql, destination: Path) -> int:
        """Write the rows of a SELECT as an Arrow file into a new folder."""
        select = parse_select(query.text)
        schemas: dict[str, pa.Schema] = {}
        builder = QueryBuilder()
        opened: dict[str, DeltaTable] = {}
        for name in select.tables:
            with self._handles.use(name) as handle:
                schemas[name] = handle.schema
                # Of its own: the handle's moves on with the table.
                opened[name] = open_table(handle.path, version=handle.existing().version())
        translated = translate_select(select, schemas)
        with native_errors("*"):
            for place, name in enumerate(translated.tables):
                builder.register(f"t{place}", opened[name])
            rows = pa.RecordBatchReader.from_stream(builder.execute(translated.text))
            found = native_reads.Found(version=0, schema=translated.schema, batches=rows)
            return native_reads.write_rows(
                found, destination, most=Most(rows=query.max_rows, bytes=query.max_bytes)
            )

    def history(self, table: str, limit: int) -> pa.Table:
        """Read the newest commits, newest first, with Delta's columns of DESCRIBE HISTORY."""
        with self._handles.use(table) as handle:
            return native_reads.history(handle.existing(), limit)

    def detail(self, table: str) -> dict[str, Any]:
        """Describe a table in JSON values."""
        with self._handles.use(table) as handle:
            return native_reads.detail(handle)

    def analyze(self, table: str) -> dict[str, Any]:
        """Tell in JSON values how a table is stored."""
        with self._handles.use(table) as handle:
            return native_maintenance.analyze(handle.existing())

    def table_bytes(self, table: str) -> int:
        """Add up the sizes of a table's files; 0 when there is no table."""
        with self._handles.use(table) as handle:
            return native_reads.total_bytes(handle.table) if handle.table else 0

    def slice_bytes(self, table: str, *, ordered: bool) -> int:
        """Tell the bytes of the most that a slice of an optimize may have to rewrite.

        Args:
            table: The table.
            ordered: Rows are ordered as well, so that partitions are rewritten as a whole.
        """
        with self._handles.use(table) as handle:
            return largest_piece(handle.table, ordered=ordered) if handle.table else 0

    def survey(self, table: str) -> Survey:
        """Look at a table as its policy does.

        Raises:
            TableNotFound: There is no such table.
        """
        with self._handles.use(table) as handle:
            delta = handle.existing()
            metadata = delta.metadata()
            return Survey(
                tiers={size: partitions(delta, size // 2) for size in TIERS},
                properties=metadata.configuration,
                columns=[n for n in handle.schema.names if n not in metadata.partition_columns],
                needs_spark=maps_columns(delta),
                commits_since_checkpoint=handle.commits_since_checkpoint(),
            )

    def tidy(self, table: str) -> None:
        """Write a checkpoint if it is time; best while nobody waits."""
        try:
            with self._handles.use(table, trusted=math.inf) as handle:
                if handle.is_unidentified:
                    handle.identify()
                if handle.table and handle.is_checkpoint_due():
                    handle.checkpoint()
        except (DeltaqError, NotNative) as exc:
            # Nothing depends on it; a log without a checkpoint is only slower to read.
            logger.warning("table %s: no checkpoint: %s", table, exc)

    def commits_since_checkpoint(self, table: str) -> int:
        """Count the commits that whoever opens the table must read one by one."""
        with self._handles.use(table) as handle:
            return handle.commits_since_checkpoint()

    def checkpoint(self, table: str) -> None:
        """Write a checkpoint of a table's newest version.

        Raises:
            TableNotFound: There is no such table.
        """
        with self._handles.use(table) as handle:
            handle.checkpoint()

    def clean_log(self, table: str) -> None:
        """Remove the entries of a table's log that are older than a checkpoint and its retention.

        That is ``delta.logRetentionDuration``, 30 days if the table does not say; none are removed
        if ``delta.enableExpiredLogCleanup`` is false.

        Raises:
            TableNotFound: There is no such table.
        """
        with self._handles.use(table) as handle:
            wanted = handle.existing().metadata().configuration.get(_CLEANS, "true")
        if wanted.lower() == "true":
            with native_errors(table):  # of its own: nobody waits for it with the handle
                open_table(self._lake.path(table)).cleanup_metadata()

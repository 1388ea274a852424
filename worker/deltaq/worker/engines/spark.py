"""The engine for everything: Spark and Delta, in the warm JVM of this worker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from deltaq.tasks.errors import CommitConflict, EngineDied, EngineUnavailable
from deltaq.tasks.query import Read
from deltaq.tasks.request import Append, Delete, EngineName, FrameRequest, Merge
from deltaq.tasks.staging import StagingArea
from deltaq.worker import ledger
from deltaq.worker.durable import sync_commit
from deltaq.worker.engines import Commit, spark_commands
from deltaq.worker.engines.asked import history_table
from deltaq.worker.engines.columns import (
    check_new_partitions,
    check_partition_values,
    check_partitions,
    check_required,
    columns_to_update,
)
from deltaq.worker.engines.delta_schema import arrow_schema
from deltaq.worker.engines.delta_types import is_text
from deltaq.worker.engines.fit import (
    check_keys_present,
    check_unique_keys,
    fit_schema,
    fitted_batches,
)
from deltaq.worker.engines.kernel import Kernel, Snapshot
from deltaq.worker.engines.spark_counts import counts
from deltaq.worker.engines.spark_errors import spark_errors
from deltaq.worker.engines.spark_frames import staged_frame, staged_schema
from deltaq.worker.engines.spark_queries import asked_rows, asked_version, description, prepare
from deltaq.worker.engines.transaction import LedgerAt, Transactions
from deltaq.worker.expressions import columns_in
from deltaq.worker.groups import CommitGroup
from deltaq.worker.lake import Lake
from deltaq.worker.warm import WarmSpark, WarmState

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: Seconds that a query waits for Spark to be warm; a start takes 10 to 20.
_READY_WITHIN = 60.0
_DELTA = "spark.databricks.delta."


@dataclass(frozen=True, kw_only=True)
class _Connection:
    """What belongs to one life of the JVM."""

    session: SparkSession
    kernel: Kernel
    transactions: Transactions


class SparkEngine:
    """Performs requests with Spark; see ``Engine`` for what each method promises.

    Args:
        warm: The worker's SparkSession.
        lake: Where the tables are.
        staging: Where the staged files are.
    """

    name: EngineName = "spark"

    def __init__(self, warm: WarmSpark, lake: Lake, staging: StagingArea) -> None:
        self._warm = warm
        self._lake = lake
        self._staging = staging
        self._lock = threading.Lock()
        self._connection: _Connection | None = None

    def ledger(self, table: str, app_id: str) -> int:
        """Read the last committed sequence from the table's newest version; -1 for none."""
        if not self._lake.exists(table):
            return ledger.NOTHING
        with self._connected(table) as connection:
            return connection.kernel.ledger(self._lake.path(table), app_id)

    def apply(self, group: CommitGroup) -> Commit:
        """Make one Delta commit of a group: its data and its ledger, or nothing.

        It is durable when this returns.
        """
        path = self._lake.path(group.table)
        with self._connected(group.table) as connection:
            snapshot = self._snapshot(connection.kernel, group)
            ledger_at = _ledger_reader(connection.kernel, path, group, snapshot)
            session = connection.session.newSession()
            session.conf.set(f"{_DELTA}commitInfo.userMetadata", ledger.note(group))
            with _job(session, _job_group(group)), connection.transactions.guard(group, ledger_at):
                self._perform(session, group, snapshot)
                version = _committed_version(session)
                if version is None and snapshot:  # nothing to delete
                    spark_commands.advance_ledger(session, path, snapshot.identity_columns)
                    version = _committed_version(session)
        if version is None:
            raise CommitConflict(f"table {group.table}: Delta made no commit", table=group.table)
        sync_commit(path, version)
        return Commit(version=version, counts=counts(group, path, version))

    def interrupt(self, group: CommitGroup) -> None:
        """Cancel what :meth:`apply` runs for a group; it then raises ``LeaseLost``.

        Raises:
            EngineUnavailable: Spark does not answer.
        """
        connection = self._connection
        if connection is not None and self._warm.state is WarmState.READY:
            with spark_errors(group.table):
                connection.session.sparkContext.cancelJobGroup(_job_group(group))

    def read(self, query: Read, destination: Path) -> tuple[int, int]:
        """Write the rows a query asks for as Parquet files into a new folder."""
        path = self._existing(query.table)
        with self._connected(query.table, wait=_READY_WITHIN) as connection:
            version = asked_version(connection.kernel, path, query)
            session = connection.session.newSession()
            reader = session.read.format("delta").option("versionAsOf", version)
            with _job(session, query.request_id):
                asked_rows(reader.load(str(path)), query).write.parquet(str(destination))
        files = destination.glob("*.parquet")
        return version, sum(pq.read_metadata(file).num_rows for file in files)

    def history(self, table: str, limit: int) -> pa.Table:
        """Read the newest commits, newest first, with Delta's columns of DESCRIBE HISTORY."""
        from delta.tables import DeltaTable

        path = self._existing(table)
        with self._connected(table, wait=_READY_WITHIN) as connection:
            session = connection.session.newSession()
            found = DeltaTable.forPath(session, str(path)).history(limit).toArrow()
        return history_table(found.to_pylist())

    def detail(self, table: str) -> dict[str, Any]:
        """Describe a table in JSON values."""
        from delta.tables import DeltaTable

        path = self._existing(table)
        with self._connected(table, wait=_READY_WITHIN) as connection:
            snapshot = connection.kernel.snapshot(path)
            session = connection.session.newSession()
            told = DeltaTable.forPath(session, str(path)).detail().toArrow().to_pylist()[0]
        return description(table, snapshot, told)

    def _snapshot(self, kernel: Kernel, group: CommitGroup) -> Snapshot | None:
        """Look at the group's table; None when it is not there.

        Raises:
            CommitConflict: Somebody else has moved its ledger.
        """
        if not self._lake.exists(group.table):
            return None
        snapshot = kernel.snapshot(self._lake.path(group.table), group.app_id)
        if group.is_late(snapshot.ledger):
            raise ledger.moved(group, snapshot.ledger)
        return snapshot

    def _existing(self, table: str) -> Path:
        if not self._lake.exists(table):
            raise self._lake.missing(table)
        return self._lake.path(table)

    @contextmanager
    def _connected(self, table: str, *, wait: float = 0.0) -> Iterator[_Connection]:
        session = self._warm.session(wait)
        try:
            with spark_errors(table):
                yield self._connect(session)
        except EngineUnavailable as exc:
            self._warm.condemn(session)
            raise EngineDied(exc.message, table=table) from exc
        except Exception as exc:
            # Once the JVM is gone, what Spark's Python side raises says nothing.
            if self._warm.state is WarmState.FAILED:
                raise EngineDied(f"{self._warm.error}", table=table) from exc
            raise

    def _connect(self, session: SparkSession) -> _Connection:
        with self._lock:
            if self._connection is None or self._connection.session is not session:
                self._connection = _Connection(
                    session=session, kernel=Kernel(session), transactions=Transactions(session)
                )
            return self._connection

    def _perform(
        self, session: SparkSession, group: CommitGroup, snapshot: Snapshot | None
    ) -> None:
        request = group.first
        path = self._lake.path(group.table)
        if isinstance(request, Delete):
            if snapshot is None:
                raise self._lake.missing(group.table)
            prepare(session, request.where, snapshot.schema)
            spark_commands.delete(session, path, request.where)
            return
        if isinstance(request, Merge):
            self._merge(session, group, request, snapshot)
            return
        partitions = self._partitions(group, request, snapshot)
        with self._frame(session, group, snapshot) as frame:
            if snapshot:
                check_required(snapshot.required, frame.columns, name=group.table)
            if isinstance(request, Append):
                spark_commands.append(frame, path, partitions)
            elif request.where is None:
                spark_commands.overwrite(frame, path, partitions)
            else:
                schema = snapshot.schema if snapshot else arrow_schema(frame.schema.json())
                prepare(session, request.where, schema)
                if snapshot:
                    spark_commands.overwrite_where(frame, path, request.where)
                else:
                    spark_commands.check_all(frame, request)
                    spark_commands.append(frame, path, partitions)

    def _merge(
        self, session: SparkSession, group: CommitGroup, request: Merge, snapshot: Snapshot | None
    ) -> None:
        path, staged = self._lake.path(group.table), self._staged(group)
        columns = staged_schema(staged[0])
        table = snapshot.schema if snapshot else None
        check_keys_present(columns, table, request.keys, name=request.table)
        several = len(staged) > 1
        if not several:
            check_unique_keys(staged, request.keys, name=request.table)
        extra: frozenset[str] = frozenset()
        if request.delete_when is not None:
            extra = columns_in(request.delete_when, columns, what="delete_when")
        if snapshot is None and not request.insert:
            raise self._lake.missing(request.table)
        partitions = self._partitions(group, request, snapshot)
        with staged_frame(
            session,
            self._staging,
            staged,
            table,
            name=request.table,
            extra_allowed=extra,
            keys=request.keys if several else (),
        ) as frame:
            if snapshot is None:
                spark_commands.insert_all(frame, path, partitions, request.delete_when)
                return
            optional = snapshot.filled_columns.difference(columns.names)
            needed = [c for c in snapshot.schema.names if c not in optional]
            update = columns_to_update(request, columns.names, needed)
            if request.insert:
                check_required(snapshot.required, columns.names, name=request.table)
            spark_commands.merge(session, frame, path, request, update)

    def _partitions(
        self, group: CommitGroup, request: FrameRequest, snapshot: Snapshot | None
    ) -> tuple[str, ...]:
        """Return the partitions that the table has or will have.

        Raises:
            SchemaMismatch: It has others than the request says, or a value makes no folder.
            InvalidFrame: It cannot have these.
        """
        paths = self._staged(group)
        staged = staged_schema(paths[0])
        if snapshot is None:
            check_new_partitions(request, fit_schema(staged, None, name=group.table))
            partitions = request.partition_by or ()
        else:
            check_partitions(request, snapshot.partition_by)
            partitions = snapshot.partition_by
        texts = [c for c in partitions if c in staged.names and is_text(staged.field(c).type)]
        if texts:
            batches = fitted_batches(paths, pa.schema([(c, pa.string()) for c in texts]))
            for _ in check_partition_values(batches, texts, name=group.table):
                pass
        return partitions

    def _staged(self, group: CommitGroup) -> list[Path]:
        return [self._staging.request_path(r.table, r.request_id) for r in group.requests]

    def _frame(self, session: SparkSession, group: CommitGroup, snapshot: Snapshot | None) -> Any:
        return staged_frame(
            session,
            self._staging,
            self._staged(group),
            snapshot.schema if snapshot else None,
            name=group.table,
        )


def _job_group(group: CommitGroup) -> str:
    return f"{group.app_id}/{group.sequence}"


def _ledger_reader(
    kernel: Kernel, table: Path, group: CommitGroup, known: Snapshot | None
) -> LedgerAt:
    """Make what reads the group's ledger in a version, at no cost in the one that is known."""

    def ledger_at(version: int) -> int:
        if known is not None and known.version == version:
            return known.ledger
        return kernel.ledger_at(table, group.app_id, version)

    return ledger_at


def _committed_version(command: SparkSession) -> int | None:
    """Tell which version a command's session has committed; None if it has not."""
    version = command.conf.get(f"{_DELTA}lastCommitVersionInSession", None)
    return None if version is None else int(version)


@contextmanager
def _job(session: SparkSession, name: str) -> Iterator[None]:
    """Run this thread's jobs under a name and, beside other threads', in a pool of their own."""
    context = session.sparkContext
    context.setJobGroup(name, name, interruptOnCancel=True)
    context.setLocalProperty("spark.scheduler.pool", threading.current_thread().name)
    try:
        yield
    finally:
        context._jsc.clearJobGroup()

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

from deltaq.tasks.errors import ClusterLost, CommitConflict, EngineDied, EngineUnavailable
from deltaq.tasks.location import Location
from deltaq.tasks.query import Query, Read, Sql
from deltaq.tasks.request import Convert, EngineName
from deltaq.tasks.staging import StagingArea
from deltaq.worker import ledger
from deltaq.worker.durable import sync_commit
from deltaq.worker.engines import Commit, Parts, spark_commands
from deltaq.worker.engines.asked import Most, history_table
from deltaq.worker.engines.kernel import Kernel, Snapshot
from deltaq.worker.engines.spark_change import Change
from deltaq.worker.engines.spark_counts import counts
from deltaq.worker.engines.spark_errors import spark_errors
from deltaq.worker.engines.spark_jobs import Jobs
from deltaq.worker.engines.spark_queries import (
    asked_rows,
    asked_version,
    counted_files,
    description,
)
from deltaq.worker.engines.spark_select import selected_rows
from deltaq.worker.engines.spark_work import SparkWork
from deltaq.worker.engines.transaction import LedgerAt, Transactions
from deltaq.worker.engines.urls import spark_url
from deltaq.worker.groups import CommitGroup
from deltaq.worker.lake import Lake
from deltaq.worker.maintenance.analysis import analyse
from deltaq.worker.selects import parse_select
from deltaq.worker.warm import WarmSpark, WarmState

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: Seconds that a query waits for Spark to be warm; a start takes 10 to 20.
_READY_WITHIN = 60.0
#: Rows of one part of a scan, which the client reads as a whole.
_ROWS_PER_PART = 100_000
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
        self._work = SparkWork(staging, shared=warm.has_cluster)
        self._jobs = Jobs()
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
            with (
                self._jobs.run(session, _job_group(group), share=group.table),
                connection.transactions.guard(group, ledger_at),
            ):
                change = Change(
                    group,
                    self._lake,
                    snapshot,
                    session=session,
                    kernel=connection.kernel,
                    staging=self._staging,
                    work=self._work,
                )
                change.perform()
                version = _committed_version(session)
                converted = isinstance(group.first, Convert)  # without the ledger
                if converted or (version is None and snapshot):  # nothing to delete, or to compact
                    filled = snapshot.identity_columns if snapshot else []
                    spark_commands.advance_ledger(session, path, filled)
                    version = _committed_version(session)
        if version is None:
            raise CommitConflict(f"table {group.table}: Delta made no commit", table=group.table)
        if converted:  # by the commit before
            sync_commit(path, version - 1)
        sync_commit(path, version)
        return Commit(version=version, counts=counts(group, path, version), value=change.value)

    def interrupt(self, group: CommitGroup) -> None:
        """Cancel what :meth:`apply` runs for a group; it then raises ``LeaseLost``.

        Raises:
            EngineUnavailable: Spark does not answer.
        """
        connection = self._connection
        if connection is not None and self._warm.state is WarmState.READY:
            with spark_errors(group.table):
                connection.session.sparkContext.cancelJobGroup(_job_group(group))

    def read(self, query: Read, destination: Path, *, rows_per_file: int = 0) -> tuple[int, int]:
        """Write the rows a query asks for as Parquet files into a new folder."""
        path = self._existing(query.table)
        with self._connected(query.table, wait=_READY_WITHIN) as connection:
            version = asked_version(connection.kernel, path, query)
            session = connection.session.newSession()
            reader = session.read.format("delta").option("versionAsOf", version)
            with self._querying(session, query, destination) as folder:
                rows = asked_rows(reader.load(spark_url(path)), query)
                rows.write.option("maxRecordsPerFile", rows_per_file).parquet(folder)
        files = destination.glob("*.parquet")
        return version, sum(pq.read_metadata(file).num_rows for file in files)

    def scan(self, query: Read, parts: Parts) -> int:
        """Hand over the rows a query asks for, once Spark has written all of them."""
        work = self._staging.new_work_path()
        try:
            version, _ = self.read(query, work, rows_per_file=_ROWS_PER_PART)
            for file in sorted(work.glob("*.parquet")):
                parts.take(file, suffix="parquet", rows=pq.read_metadata(file).num_rows)
        finally:
            self._staging.remove_folder(work)
        return version

    def sql(self, query: Sql, destination: Path) -> int:
        """Write the rows of a SELECT as Parquet files into a new folder."""
        select = parse_select(query.text)
        paths = {name: self._existing(name) for name in select.tables}
        most = Most(rows=query.max_rows, bytes=query.max_bytes)
        with self._connected("*", wait=_READY_WITHIN) as connection:
            session = connection.session.newSession()
            with self._querying(session, query, destination) as folder:
                selected = selected_rows(session, select, paths)
                selected.limit(most.rows + 1).write.parquet(folder)
        found = [pq.read_metadata(file) for file in destination.glob("*.parquet")]
        groups = [file.row_group(i) for file in found for i in range(file.num_row_groups)]
        rows: int = sum(group.num_rows for group in groups)
        most.check(rows, sum(group.total_byte_size for group in groups))
        return rows

    def history(self, table: str, limit: int) -> pa.Table:
        """Read the newest commits, newest first, with Delta's columns of DESCRIBE HISTORY."""
        from delta.tables import DeltaTable

        path = self._existing(table)
        with self._connected(table, wait=_READY_WITHIN) as connection:
            session = connection.session.newSession()
            found = DeltaTable.forPath(session, spark_url(path)).history(limit).toArrow()
        return history_table(found.to_pylist())

    def analyze(self, table: str) -> dict[str, Any]:
        """Tell in JSON values how a table is stored; it counts the rows of each file."""
        path = self._existing(table)
        with self._connected(table, wait=_READY_WITHIN) as connection:
            columns = list(connection.kernel.snapshot(path).partition_by)
            rows = connection.session.newSession().read.format("delta").load(spark_url(path))
            return analyse(counted_files(rows, columns), columns)

    def detail(self, table: str) -> dict[str, Any]:
        """Describe a table in JSON values."""
        from delta.tables import DeltaTable

        path = self._existing(table)
        with self._connected(table, wait=_READY_WITHIN) as connection:
            snapshot = connection.kernel.snapshot(path)
            session = connection.session.newSession()
            told = DeltaTable.forPath(session, spark_url(path)).detail().toArrow().to_pylist()[0]
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

    def _existing(self, table: str) -> Location:
        if not self._lake.exists(table):
            raise self._lake.missing(table)
        return self._lake.path(table)

    @contextmanager
    def _connected(self, table: str, *, wait: float = 0.0) -> Iterator[_Connection]:
        session = self._warm.session(wait)
        try:
            with spark_errors(table):
                yield self._connect(session)
        except EngineDied:  # executors, not all of it
            raise
        except EngineUnavailable as exc:
            self._warm.condemn(session)
            raise self._death(exc, table) from exc
        except Exception as exc:
            # Once the JVM is gone, what Spark's Python side raises says nothing.
            if self._warm.state is WarmState.FAILED:
                raise self._death(exc, table) from exc
            raise

    def _death(self, exc: Exception, table: str) -> EngineUnavailable:
        """Tell the death of the JVM; that of the cluster is held against no request."""
        error = self._warm.error
        kind = ClusterLost if isinstance(error, ClusterLost) else EngineDied
        return kind(str(error or exc), table=table)

    @contextmanager
    def _querying(self, session: SparkSession, query: Query, destination: Path) -> Iterator[str]:
        """Run the jobs of a query; their rows, written to a folder, are in another at the end."""
        share = f"queries of {query.table}"  # beside the commits of that table
        with (
            self._work.rows_for(destination) as folder,
            self._jobs.run(session, query.request_id, share=share),
        ):
            yield spark_url(folder)

    def _connect(self, session: SparkSession) -> _Connection:
        with self._lock:
            if self._connection is None or self._connection.session is not session:
                self._connection = _Connection(
                    session=session, kernel=Kernel(session), transactions=Transactions(session)
                )
            return self._connection


def _job_group(group: CommitGroup) -> str:
    return f"{group.app_id}/{group.sequence}"


def _ledger_reader(
    kernel: Kernel, table: Location, group: CommitGroup, known: Snapshot | None
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

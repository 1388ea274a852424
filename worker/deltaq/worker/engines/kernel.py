"""Looks at a table through Delta Kernel: milliseconds and no Spark job."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from deltaq.worker.engines.delta_schema import arrow_schema
from deltaq.worker.ledger import NOTHING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class Snapshot:
    """A table at one version."""

    version: int
    schema_json: str
    partition_by: tuple[str, ...]

    @cached_property
    def schema(self) -> pa.Schema:
        """The table's columns in Arrow's types.

        Raises:
            EngineRefused: A column has a type that frames cannot hold.
        """
        return arrow_schema(self.schema_json)


class Kernel:
    """Delta Kernel in the JVM of a session."""

    def __init__(self, session: SparkSession) -> None:
        package: Any = session._jvm.io.delta.kernel  # type: ignore[union-attr]
        engines = package.defaults.engine.DefaultEngine
        self._engine = engines.create(session._jsc.hadoopConfiguration())
        self._table = package.Table  # kept: each look-up of a class is a few round trips

    def ledger(self, table: Path, app_id: str) -> int:
        """Read the last committed sequence of a ledger; -1 for none."""
        found = self._latest(table).getLatestTransactionVersion(self._engine, app_id)
        return int(found.get()) if found.isPresent() else NOTHING

    def snapshot(self, table: Path) -> Snapshot:
        """Read the newest version."""
        latest = self._latest(table)
        return Snapshot(
            version=int(latest.getVersion()),
            schema_json=str(latest.getSchema().toJson()),
            partition_by=tuple(latest.getPartitionColumnNames()),
        )

    def version(self, table: Path) -> int:
        """Read the number of the newest version."""
        return int(self._latest(table).getVersion())

    def version_at(self, table: Path, milliseconds: int) -> int:
        """Find the version that was the newest at a time, in milliseconds since 1970."""
        found = self._for_path(table).getSnapshotAsOfTimestamp(self._engine, milliseconds)
        return int(found.getVersion())

    def _latest(self, table: Path) -> Any:
        return self._for_path(table).getLatestSnapshot(self._engine)

    def _for_path(self, table: Path) -> Any:
        return self._table.forPath(self._engine, str(table))

"""Looks at a table through Delta Kernel: milliseconds and no Spark job."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from deltaq.tasks.location import Location
from deltaq.worker.engines.delta_schema import arrow_schema
from deltaq.worker.engines.urls import spark_url
from deltaq.worker.ledger import NOTHING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


#: Metadata of such a column.
_FILLED = {"delta.generationExpression", "delta.identity.start", "CURRENT_DEFAULT"}


@dataclass(frozen=True)
class Snapshot:
    """A table at one version, and how far a ledger was in it."""

    version: int
    ledger: int
    schema_json: str
    partition_by: tuple[str, ...]
    properties: dict[str, str]
    #: Writer features; older protocols list none.
    features: frozenset[str]

    @cached_property
    def schema(self) -> pa.Schema:
        """The table's columns in Arrow's types.

        Raises:
            EngineRefused: A column has a type that frames cannot hold.
        """
        return arrow_schema(self.schema_json)

    @property
    def required(self) -> pa.Schema:
        """The columns that a new row must bring, if they may not be null."""
        return pa.schema([f for f in self.schema if f.name not in self.filled_columns])

    @property
    def filled_columns(self) -> frozenset[str]:
        """The columns that Delta fills when a frame lacks them."""
        fields = json.loads(self.schema_json)["fields"]
        return frozenset(f["name"] for f in fields if _FILLED.intersection(f["metadata"]))

    @property
    def identity_columns(self) -> list[str]:
        """The columns that only Delta may fill."""
        fields = json.loads(self.schema_json)["fields"]
        return [f["name"] for f in fields if "delta.identity.start" in f["metadata"]]


class Kernel:
    """Delta Kernel in the JVM of a session."""

    def __init__(self, session: SparkSession) -> None:
        package: Any = session._jvm.io.delta.kernel  # type: ignore[union-attr]
        engines = package.defaults.engine.DefaultEngine
        self._engine = engines.create(session._jsc.hadoopConfiguration())
        self._table = package.Table  # kept: each look-up of a class is a few round trips
        self._mapper = session._jvm.com.fasterxml.jackson.databind.ObjectMapper()  # type: ignore[union-attr]

    def ledger(self, table: Location, app_id: str) -> int:
        """Read the last committed sequence of a ledger in the newest version; -1 for none."""
        return self._ledger(self._latest(table), app_id)

    def ledger_at(self, table: Location, app_id: str, version: int) -> int:
        """Read the last committed sequence of a ledger in a version; -1 for none."""
        found = self._for_path(table).getSnapshotAsOfVersion(self._engine, version)
        return self._ledger(found, app_id)

    def snapshot(self, table: Location, app_id: str | None = None) -> Snapshot:
        """Read the newest version, and a ledger in it."""
        latest = self._latest(table)
        partitions = latest.getPartitionColumnNames()
        return Snapshot(
            version=int(latest.getVersion()),
            ledger=NOTHING if app_id is None else self._ledger(latest, app_id),
            schema_json=str(latest.getSchema().toJson()),
            # By index: py4j ends an iteration with an exception, which costs 15 ms.
            partition_by=tuple(partitions.get(i) for i in range(partitions.size())),
            properties=self._json(latest.getMetadata().getConfiguration()),
            features=frozenset(self._json(latest.getProtocol().getWriterFeatures())),
        )

    def checkpoint(self, table: Location, version: int) -> None:
        """Write a checkpoint of a version."""
        self._for_path(table).checkpoint(self._engine, version)

    def version_at(self, table: Location, milliseconds: int) -> int | None:
        """Find the version that was the newest at a time, in milliseconds since 1970.

        None if the table was not there yet; a time to come means the newest.
        """
        from py4j.protocol import Py4JJavaError

        latest = self._latest(table)
        if milliseconds >= latest.getTimestamp(self._engine):
            return int(latest.getVersion())
        try:
            found = self._for_path(table).getSnapshotAsOfTimestamp(self._engine, milliseconds)
        except Py4JJavaError as exc:
            if "is before the earliest available version" in str(exc):
                return None
            raise
        return int(found.getVersion())

    def _json(self, value: Any) -> Any:
        """Take a map or set of texts over at one go, not one by one."""
        return json.loads(self._mapper.writeValueAsString(value))

    def _ledger(self, snapshot: Any, app_id: str) -> int:
        found = snapshot.getLatestTransactionVersion(self._engine, app_id)
        return int(found.get()) if found.isPresent() else NOTHING

    def _latest(self, table: Location) -> Any:
        return self._for_path(table).getLatestSnapshot(self._engine)

    def _for_path(self, table: Location) -> Any:
        return self._table.forPath(self._engine, spark_url(table))

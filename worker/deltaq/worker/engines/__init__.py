"""What an engine can do. Engines know Delta; they know nothing of Redis or Celery."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from deltaq.tasks.query import Read, Sql
from deltaq.tasks.request import EngineName
from deltaq.tasks.slices import Slices
from deltaq.worker.groups import CommitGroup


@dataclass(frozen=True, kw_only=True)
class RowCounts:
    """What one request did to the table; None where it cannot be told for it alone."""

    inserted: int | None = None
    updated: int | None = None
    deleted: int | None = None


@dataclass(frozen=True, kw_only=True)
class Commit:
    """A Delta commit that is in the table's log.

    Attributes:
        version: The version it made; None for a drop, which leaves none.
        counts: What each member of the group did, in order.
        value: What else there is to tell of a group of one; JSON values.
        more: Set after a slice of a request of which more is to do. The ledger has not moved.
    """

    version: int | None
    counts: tuple[RowCounts, ...]
    value: Any = None
    more: Slices | None = None


class NotNative(Exception):
    """The native engine cannot do this as Spark would; the router gives it to Spark.

    It never leaves the worker, so it is not of the tree of ``deltaq.tasks.errors``. Nothing
    was written.

    Args:
        reason: What native cannot do, for the outcome.
        of_table: It holds for whatever is asked of this table.
    """

    def __init__(self, reason: str, *, of_table: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.of_table = of_table


class Parts(Protocol):
    """Where the rows of a scan go, in order. Each method may wait for the client to take some."""

    @property
    def count(self) -> int:
        """How many parts were handed over."""
        ...

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        ...

    def flush(self, schema: pa.Schema) -> None:
        """Hand over what was added, at the end at the latest."""
        ...

    def take(self, file: Path, *, suffix: str, rows: int) -> None:
        """Hand over a file, which is moved, as the next part."""
        ...


class Engine(Protocol):
    """Performs requests on the tables of one lake. Every method may be called by any thread.

    Errors are those of ``deltaq.tasks.errors``; after any of them from :meth:`apply` the
    caller reads the ledger again, for the commit may have happened all the same.
    """

    @property
    def name(self) -> EngineName:
        """The engine's name in requests, outcomes and settings."""
        ...

    def ledger(self, table: str, app_id: str) -> int:
        """Read the last committed sequence from the table's newest version; -1 for none.

        Raises:
            StorageUnavailable: The lake cannot be read now.
        """
        ...

    def apply(self, group: CommitGroup) -> Commit:
        """Make one Delta commit of a group: its data and its ledger, or nothing.

        Of maintenance it does a slice, and the ledger moves with the last one; doing a slice
        again does no harm.

        Raises:
            RequestError: Something is wrong with the group; nothing was written.
            CommitConflict: Somebody else committed first, this ledger's next owner included.
            StorageUnavailable, EngineUnavailable: It may succeed later.
        """
        ...

    def read(self, query: Read, destination: Path) -> tuple[int, int]:
        """Write the rows a query asks for as Arrow or Parquet files into a new folder.

        Returns:
            The table's version that was read, and the number of rows.

        Raises:
            TableNotFound, VersionNotFound, InvalidExpression, SchemaMismatch: Of the query.
        """
        ...

    def scan(self, query: Read, parts: Parts) -> int:
        """Hand over the rows a query asks for part by part, and return the table's version.

        Raises:
            TableNotFound, VersionNotFound, InvalidExpression, SchemaMismatch: Of the query.
        """
        ...

    def sql(self, query: Sql, destination: Path) -> int:
        """Write the rows of a SELECT as Arrow or Parquet files, in order, into a new folder.

        Returns:
            The number of rows.

        Raises:
            InvalidExpression: It is no SELECT of tables, or names what is not there.
            TableNotFound: A table is not there.
            ResultTooLarge: It has more rows or bytes than it may.
        """
        ...

    def history(self, table: str, limit: int) -> pa.Table:
        """Read the newest commits, newest first, with Delta's columns of DESCRIBE HISTORY."""
        ...

    def analyze(self, table: str) -> dict[str, Any]:
        """Tell in JSON values how a table is stored; see ``maintenance.analysis``."""
        ...

    def detail(self, table: str) -> dict[str, Any]:
        """Describe a table in JSON values: version, schema, partitions, files, bytes, ..."""
        ...

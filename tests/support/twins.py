"""The same requests through both engines, on two tables that must stay the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from deltaq.tasks.errors import DeltaqError
from deltaq.tasks.location import Location, make_folder
from deltaq.tasks.staging import StagingArea
from deltaq.worker.engines import Commit, Engine, NotNative
from deltaq.worker.engines.native import NativeEngine
from deltaq.worker.engines.spark import SparkEngine
from deltaq.worker.engines.urls import spark_url
from deltaq.worker.lake import Lake
from deltaq.worker.warm import WarmSpark
from tests.support.applying import Applier

Act = Callable[[Applier], Any]

_BEGAN = re.compile(r" at \d{4}-\d\d-\d\dT[\d:]+\+00:00$")


class Twins:
    """A table in each of two lakes, under one name: one written by native, one by Spark.

    Args:
        folder: An empty folder for both lakes.
        warm: The Spark of the run.
        table: The name of both tables.
    """

    def __init__(self, folder: Location, warm: WarmSpark, table: str = "prices") -> None:
        self._folders = {"native": folder / "native", "spark": folder / "spark"}
        self.warm = warm
        self._table = table
        for lake in self._folders.values():
            make_folder(lake)
        self.native = self._applier("native", by="native")
        self.spark = self._applier("spark", by="spark")
        #: Each engine with the table that the other one writes.
        self.readers = (self._applier("native", by="spark"), self._applier("spark", by="native"))

    def both(self, act: Callable[[Applier], Commit]) -> Commit:
        """Have both engines do something, and check that they tell the same of it."""
        native, spark = act(self.native), act(self.spark)
        assert _same_where_told(native, spark), (native, spark)
        return native

    def refused(self, act: Act) -> DeltaqError:
        """Have both engines refuse something, and check that they say the same of it."""
        errors = [refusal(act, self.native), refusal(act, self.spark)]
        # Each table tells when its own log begins.
        told = [(type(e), _BEGAN.sub(" at then", e.message)) for e in errors]
        assert told[0] == told[1], told
        return errors[0]

    def compare(self, **query: Any) -> pa.Table:
        """Read each table by the other engine and check that they are the same.

        Returns:
            The rows that Spark reads of native's table.
        """
        of_spark, of_native = (reader.read(**query) for reader in self.readers)
        assert of_spark.schema.remove_metadata() == of_native.schema.remove_metadata()
        assert canonical(of_spark) == canonical(of_native)
        return of_native

    def compare_versions(self) -> None:
        """Read all versions of both tables by native, in no time, and check that they agree."""
        newest = self.native.read_version()[0]
        for version in range(newest + 1):
            native, spark = (t.read(version=version) for t in (self.native, self.readers[0]))
            assert canonical(native) == canonical(spark), version

    def compare_details(self) -> None:
        """Check that both engines describe both tables alike."""
        shape = ("version", "schema", "partition_by")
        details = [a.engine.detail(self._table) for a in (self.native, self.spark, *self.readers)]
        told = [{name: found[name] for name in shape} for found in details]
        assert all(one == told[0] for one in told)

    def sql(self, statement: str) -> None:
        """Have Spark do something with both tables, called ``{table}`` in it."""
        session = self.warm.session(timeout=60)
        for applier in (self.native, self.spark):
            session.sql(statement.format(table=f"delta.`{spark_url(applier.path)}`"))

    def changes(self, applier: Applier) -> list[str]:
        """Read a table's change data feed with Spark."""
        reader = self.warm.session(timeout=60).read.format("delta")
        reader = reader.option("readChangeFeed", "true").option("startingVersion", 0)
        return canonical(reader.load(spark_url(applier.path)).drop("_commit_timestamp").toArrow())

    def _applier(self, engine: str, *, by: str) -> Applier:
        folder = self._folders[by]
        lake, staging = Lake(folder), StagingArea(folder / ".deltaq")
        made: Engine = (
            NativeEngine(lake, staging)
            if engine == "native"
            else SparkEngine(self.warm, lake, staging)
        )
        return Applier(made, folder, self._table)


def refusal(act: Act, applier: Applier) -> DeltaqError:
    """Return the error that an engine raises."""
    try:
        told = act(applier)
    except DeltaqError as exc:
        return exc
    except NotNative as exc:
        raise AssertionError(f"not native: {exc.reason}") from exc
    raise AssertionError(f"{applier.engine.name} did it: {told}")


def canonical(table: pa.Table) -> list[str]:
    """Write rows as sorted texts that tell apart all values, -0.0 from 0.0 as well."""
    columns = [_within_python(column) for column in table.columns]
    return sorted(map(repr, pa.table(columns, names=table.column_names).to_pylist()))


def _within_python(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Make numbers of times; Python has none after the year 9999."""
    if pt.is_timestamp(column.type):
        return column.cast(pa.int64())
    return column.cast(pa.int32()) if pt.is_date(column.type) else column


def _same_where_told(one: Commit, other: Commit) -> bool:
    """Tell whether two commits agree; a count that one engine cannot tell agrees with any."""
    pairs = [
        (getattr(a, name), getattr(b, name))
        for a, b in zip(one.counts, other.counts, strict=True)
        for name in ("inserted", "updated", "deleted")
    ]
    return one.version == other.version and all(
        None in pair or pair[0] == pair[1] for pair in pairs
    )

"""SELECT statements in Spark, on a session that knows nothing but the tables they name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from deltaq.tasks.location import Location
from deltaq.worker.engines.native_sql import two_columns
from deltaq.worker.engines.urls import spark_url
from deltaq.worker.selects import Select, invalid

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

#: FROM parquet.`/some/path` is no table.
_NO_FILES = ("spark.sql.runSQLOnFiles", "false")
#: As for conditions of reads, see ``spark_queries.prepare``.
_READ_ALL = {
    "spark.databricks.delta.stats.skipping": "false",
    "spark.sql.parquet.filterPushdown": "false",
}
_ROUNDED = ("float", "double", "decimal")


def selected_rows(
    session: SparkSession, select: Select, paths: Mapping[str, Location]
) -> DataFrame:
    """Plan a statement.

    Args:
        session: One for this statement alone.
        select: The statement.
        paths: Folders of its tables.

    Raises:
        InvalidExpression: Spark reads it otherwise than we did, or two columns have one name.
    """
    session.conf.set(*_NO_FILES)
    # A query, or an error: what Spark's parser takes for anything else does not get further.
    parser = session._jsparkSession.sessionState().sqlParser()
    if "ScriptTransform" in parser.parseQuery(select.text).treeString():
        raise invalid(select.text, "it runs a program")
    for name, path in paths.items():
        table = session.read.format("delta").load(spark_url(path))
        if any(kind.startswith(_ROUNDED) for _, kind in table.dtypes):
            for key, value in _READ_ALL.items():
                session.conf.set(key, value)
        table.createTempView(f"`{name}`")
    rows = session.sql(select.text)
    for name in rows.columns:
        if [c.lower() for c in rows.columns].count(name.lower()) > 1:
            raise two_columns(select.text, name)
    return rows

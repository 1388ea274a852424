"""The first commits of a SparkSession, which take seconds: better now than for somebody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltaq.tasks.location import Location, make_folder, remove_folder
from deltaq.tasks.s3_path import S3Path
from deltaq.worker.engines.kernel import Kernel
from deltaq.worker.engines.urls import spark_url

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def warm_up(session: SparkSession, folder: Location) -> None:
    """Load classes and compile code: two appends, a look at the table and a merge.

    Without it the first append takes 4-5 s and the first merge 4 s more.

    Args:
        session: What to warm.
        folder: One that is not there, which the executors reach; it is gone afterwards.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from delta.tables import DeltaTable

    staged, table = folder / "staged.parquet", folder / "table"
    try:
        make_folder(folder)
        with staged.create() if isinstance(staged, S3Path) else staged.open("wb") as file:
            pq.write_table(pa.table({"id": range(1000), "value": [0.5] * 1000}), file)
        reader = session.read.schema("id long, value double")
        frame = reader.parquet(spark_url(staged)).coalesce(1)
        for _ in range(2):
            frame.write.format("delta").mode("append").save(spark_url(table))
        Kernel(session).snapshot(table, app_id="warm-up")
        target = DeltaTable.forPath(session.newSession(), spark_url(table)).alias("t")
        source = frame.selectExpr("id + 500 AS id", "1.5D AS value").where("id > 900").alias("s")
        merge = target.merge(source, "t.id = s.id")
        merge.whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()
    finally:
        remove_folder(folder)

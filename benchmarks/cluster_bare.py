"""``spark-submit benchmarks/cluster_bare.py SOURCE TABLE``: the merge without deltaq.

SOURCE is a frame as an Arrow file. It prints the seconds from the frame in memory to the commit,
and those of the MERGE.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from delta.tables import DeltaTable
from pyspark.sql import SparkSession

from deltaq.worker.warm_up import warm_up


def main(source: Path, table: Path) -> None:
    """Merge a frame into a table, with a Spark that is as warm as a worker's."""
    session = SparkSession.builder.getOrCreate()
    warm_up(session, source.parent / "warm-up")
    with pa.OSFile(str(source)) as file:
        frame = pa.ipc.open_file(file).read_all()
    began = time.perf_counter()
    # Executors read files, not the memory of this program.
    staged = source.with_suffix(".parquet")
    pq.write_table(frame, staged)
    written = time.perf_counter()
    target = DeltaTable.forPath(session, str(table)).alias("t")
    merge = target.merge(session.read.parquet(str(staged)).alias("s"), "t.key = s.key")
    merge.whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()
    ended = time.perf_counter()
    print(json.dumps({"seconds": ended - began, "commit_seconds": ended - written}))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

"""How staged rows are handed to Spark."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest

from deltaq.tasks.staging import StagingArea
from deltaq.worker.engines.spark_frames import staged_frame
from deltaq.worker.engines.spark_work import SparkWork
from deltaq.worker.warm import WarmSpark
from tests.support.requests import make_append, stage


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("joined", "tasks"), [(False, 1), (True, 2)])
def test_rows_are_read_by_all_executors_where_they_are_joined_and_by_one_where_they_are_written(
    warm_spark: WarmSpark, tmp_path: Path, joined: bool, tasks: int
) -> None:
    area, request = StagingArea(tmp_path), make_append()
    stage(area, request, pa.table({"k": [os.urandom(1 << 20) for _ in range(10)]}))
    paths = [area.request_path(request.table, request.request_id)]
    session, work = warm_spark.session(timeout=240), SparkWork(area, shared=False)

    with staged_frame(session, work, paths, None, name="t", joined=joined) as frame:
        assert frame.rdd.getNumPartitions() == tasks
        assert frame.count() == 10

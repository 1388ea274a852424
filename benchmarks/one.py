"""One write at a time."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.results import Result, compared, limited
from benchmarks.run import PATIENCE, Run, warm_spark
from benchmarks.tables import ROWS, audit, frame
from benchmarks.work import APPEND, MERGE, MERGED_ROWS, Work, append_bare
from benchmarks.writers import clients, succeeded
from deltaq.client import Client
from deltaq.worker import System

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_SCHEMA = "key long, writer long, number long, price double"
_BARE, _SPARK = "bare delta-rs, which opens its table", "bare warm Spark with txn options"


def append_idle(run: Run) -> list[Result]:
    """One append at a time, from submit to result, on a table that is else idle."""
    return _idle(
        run, "append_idle", APPEND, _SparkAppends, times=40, bare_at_most=2, spark_at_least=8
    )


def merge_idle(run: Run) -> list[Result]:
    """One merge at a time, from submit to result."""
    return _idle(
        run, "merge_idle", MERGE, _SparkMerges, times=20, bare_at_most=1, spark_at_least=10
    )


def submit(run: Run) -> list[Result]:
    """How long submit takes, beside making the same frame durable by hand."""
    times = run.size(1000, 20)
    with run.place() as place, run.system(place) as system, clients(system, 1) as (client,):
        by_hand, futures = _ByHand(system, place), []
        rows = frame(1, 0)
        ways: dict[str, Callable[[], object]] = {
            "submit": lambda: futures.append(client.append("submitted", rows)),
            "by hand": lambda: by_hand.write(rows),
        }
        medians = run.milliseconds(ways, times=times, warm_up=20)
        failed = sum(not succeeded(future) for future in futures)
    notes = f"{times} calls in turns, {ROWS} rows, a worker commits meanwhile: {failed} failed"
    return [
        limited(
            "submit",
            medians["submit"],
            unit="ms",
            goal=("at most", 4),
            notes=notes,
            correct=not failed,
        ),
        compared(
            "submit",
            medians["submit"],
            medians["by hand"],
            baseline_name="pq.write_table, fsync, one durable Redis round trip",
            unit="ms",
            goal=("at most", 2),
            notes=notes,
            correct=not failed,
        ),
    ]


class _ByHand:
    """The least that keeps a frame: a Parquet file on disk and a word to Redis."""

    def __init__(self, system: System, place: Path) -> None:
        self._redis = system.redis.connect()
        self._folder = place / "by_hand"
        self._folder.mkdir()
        self._numbers = count()

    def write(self, rows: pa.Table) -> None:
        """Write a frame."""
        path = self._folder / f"{next(self._numbers)}.parquet"
        with path.open("wb") as file:
            pq.write_table(rows, file)
            file.flush()
            os.fsync(file.fileno())
        self._redis.set("by_hand", path.name)


def _idle(
    run: Run,
    name: str,
    work: Work,
    spark_side: type[_SparkAppends],
    *,
    times: int,
    bare_at_most: float,
    spark_at_least: float,
) -> list[Result]:
    times, warm_up = run.size(times, 3), run.size(6, 1)
    frames = [work.frame(1, n) for n in range(times + warm_up)]
    with (
        run.place() as place,
        run.system(place) as system,
        warm_spark(place) as session,
        clients(system, 1) as (client,),
    ):
        spark = spark_side(session, place, work, frames)
        append_bare(place / "bare", work.first())
        client.append("idle", work.first()).result(PATIENCE)
        mine, theirs, sparks = iter(frames), iter(frames), iter(range(len(frames)))
        ways: dict[str, Callable[[], object]] = {
            name: lambda: _wait(client, work, next(mine)),
            _BARE: lambda: work.bare(place / "bare", next(theirs)),
            _SPARK: lambda: spark.write(next(sparks)),
        }
        medians = run.milliseconds(ways, times=times, warm_up=warm_up)
        found = audit(system.settings.lake / "idle", [work.first(), *frames])
    into = f" into {MERGED_ROWS}" if work is MERGE else ""
    notes = f"{times} in turns, {ROWS} rows{into}, submit to result: {found}"
    goals = {_BARE: ("at most", bare_at_most), _SPARK: ("at least", spark_at_least)}
    return [
        compared(
            name,
            medians[name],
            medians[baseline],
            baseline_name=baseline,
            unit="ms",
            goal=goal,  # type: ignore[arg-type]
            notes=notes,
            correct=found.clean,
        )
        for baseline, goal in goals.items()
    ]


def _wait(client: Client, work: Work, rows: pa.Table) -> None:
    work.submit(client, "idle", rows).result(PATIENCE)


class _SparkAppends:
    """Spark's side: the frames are Parquet files already, each write is exactly-once."""

    def __init__(
        self, session: SparkSession, place: Path, work: Work, frames: list[pa.Table]
    ) -> None:
        self._session = session
        self._folder = place / "staged"
        self._folder.mkdir()
        self._table = str(place / "spark_table")
        for number, rows in enumerate(frames):
            pq.write_table(rows, self._folder / f"{number}.parquet")
        session.createDataFrame(work.first()).coalesce(1).write.format("delta").save(self._table)

    def write(self, number: int) -> None:
        """Append a frame."""
        rows = self._session.read.schema(_SCHEMA).parquet(str(self._folder / f"{number}.parquet"))
        writer = rows.coalesce(1).write.format("delta").mode("append")
        writer.option("txnAppId", "benchmark").option("txnVersion", number).save(self._table)


class _SparkMerges(_SparkAppends):
    def write(self, number: int) -> None:
        """Merge a frame."""
        from delta.tables import DeltaTable

        # The options of a MERGE can only be given by configuration, so each has a session.
        session = self._session.newSession()
        session.conf.set("spark.databricks.delta.write.txnAppId", "benchmark")
        session.conf.set("spark.databricks.delta.write.txnVersion", str(number))
        rows = session.read.schema(_SCHEMA).parquet(str(self._folder / f"{number}.parquet"))
        target = DeltaTable.forPath(session, self._table).alias("target")
        merge = target.merge(rows.alias("source"), "target.key = source.key")
        merge.whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()

"""A merge of ten million rows on a Spark cluster: through the queue, and by spark-submit."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyspark
from deltalake import write_deltalake
from tests.support.spark_cluster import SparkCluster

from benchmarks.results import Result, compared
from benchmarks.run import PATIENCE, Run
from benchmarks.tables import Audit, audit, frame, total
from deltaq.tasks.settings import load_settings
from deltaq.worker import embedded
from deltaq.worker.jars import LOG_STORE, pinned_jars
from deltaq.worker.spark_conf import spark_conf

_ROOT = Path(__file__).parents[1]
#: Of each of two executors.
_CORES, _HEAP = 1, "3g"
#: Files that the table has before the merge.
_FILES = 8
_TABLE = "merged"


@dataclass(frozen=True, kw_only=True)
class _Merge:
    """One merge: seconds from the frame in memory to the commit, and what the commit took of it."""

    seconds: float
    commit_seconds: float
    audit: Audit


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What is merged into what, where.

    Attributes:
        spark: The cluster.
        first: Parts of the table.
        source: The rows to merge: half of them are in the table.
    """

    spark: SparkCluster
    first: list[pa.Table]
    source: pa.Table

    def settings(self, **others: Any) -> dict[str, Any]:
        """Name the settings of a worker that has all of the cluster."""
        return self.spark.settings(spark_memory="2g", spark_executor_memory=_HEAP, **others)

    def make_table(self, folder: Path) -> None:
        """Make the table as it is before the merge."""
        for part in self.first:
            write_deltalake(str(folder), part, mode="append")

    def audit(self, table: Path) -> Audit:
        """Look whether the table has each row once."""
        return audit(table, [*self.first, self.source])


def cluster(run: Run) -> list[Result]:
    """Merge as many rows as a table has, half of them new, each way in turns."""
    rows = run.rows or run.size(10_000_000, 20_000)
    ways: dict[str, Callable[[_Work, Path], _Merge]] = {"ours": _ours, "bare": _bare}
    taken: dict[str, list[_Merge]] = {name: [] for name in ways}
    with SparkCluster(cores=_CORES, memory=_HEAP) as spark:
        parts = [frame(0, number, rows // _FILES) for number in range(_FILES + _FILES // 2)]
        source = pa.concat_tables(parts[_FILES // 2 :])
        changed = source.set_column(1, "writer", pa.array([1] * source.num_rows))
        work = _Work(spark=spark, first=parts[:_FILES], source=changed)
        for number in range(run.rounds):
            for name in list(ways)[:: -1 if number % 2 else 1]:
                run.say(f"cluster: {name}, {rows:,} rows, round {number + 1} of {run.rounds}")
                with run.place() as place:
                    taken[name].append(ways[name](work, place))
    return [_compared(rows, **taken)]


def _ours(work: _Work, place: Path) -> _Merge:
    work.make_table(place / "lake" / _TABLE)
    with embedded(place / "lake", engine="spark", **work.settings()) as system:
        system.wait_ready(PATIENCE)
        with system.client() as client:
            began = time.perf_counter()
            outcome = client.merge(_TABLE, work.source, keys=["key"]).result(PATIENCE)
            seconds = time.perf_counter() - began
    return _Merge(
        seconds=seconds,
        commit_seconds=outcome.commit_seconds or 0.0,
        audit=work.audit(place / "lake" / _TABLE),
    )


def _bare(work: _Work, place: Path) -> _Merge:
    """Run a script by spark-submit, with Spark as a worker has it, and time the merge in it."""
    work.make_table(place / _TABLE)
    source = place / "source.arrow"
    with pa.OSFile(str(source), "wb") as sink, pa.ipc.new_file(sink, work.source.schema) as writer:
        writer.write_table(work.source)
    settings = load_settings(lake=place, **work.settings())
    jars = [*(settings.jars / name for name in pinned_jars("delta")), LOG_STORE]
    conf = spark_conf(settings, jars, place)
    (place / "conf").write_text("".join(f"{key} {value}\n" for key, value in conf.items()))
    home = Path(pyspark.__file__).parent
    ended = subprocess.run(
        [
            *(home / "bin" / "spark-submit", "--properties-file", place / "conf"),
            *(_ROOT / "benchmarks" / "cluster_bare.py", source, place / _TABLE),
        ],
        env={
            **os.environ,
            "SPARK_HOME": str(home),
            "PYSPARK_PYTHON": sys.executable,
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(f"spark-submit: {ended.stderr[-2000:]}")
    told = json.loads(ended.stdout.splitlines()[-1])
    return _Merge(**told, audit=work.audit(place / _TABLE))


def _compared(rows: int, ours: list[_Merge], bare: list[_Merge]) -> Result:
    seconds = [statistics.median(merge.seconds for merge in merges) for merges in (ours, bare)]
    merging = [statistics.median(m.commit_seconds for m in merges) for merges in (ours, bare)]
    audits = total(merge.audit for merge in (*ours, *bare))
    return compared(
        "cluster_merge",
        *seconds,
        baseline_name="a script run by spark-submit on the same cluster",
        unit="s",
        goal=("at most", 1.1),
        notes=f"{rows:,} rows into {rows:,}, 2 executors with a core each, from the frame in memory "
        f"to the commit; the commit alone {merging[0]:.1f} s, the script's MERGE {merging[1]:.1f} "
        f"s; medians of {len(ours)}: {audits}",
        correct=audits.clean,
    )

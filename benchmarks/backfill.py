"""A year of minute bars in one commit: by two workers, by bare delta-rs, by bare Spark."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from benchmarks.backfill_data import PARTITION_BY, SCHEMA, Bars, write_bars
from benchmarks.results import Result, compared, limited
from benchmarks.run import PATIENCE, Run, local_lake, warm_spark
from benchmarks.tables import frame
from deltaq.client import Client
from deltaq.worker import System, embedded

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_WORKERS = 2
_FORMATS = ("csv", "parquet")
_BARE, _SPARK = "one process of bare delta-rs, streamed", "bare warm Spark"
_MB = 1_000_000
#: Seconds between two live appends.
_PAUSE = 0.1


@dataclass(frozen=True, kw_only=True)
class _Load:
    """One load of all bars."""

    seconds: float
    #: The most memory of a process, of a worker with those it started; 0 if nobody looked.
    bytes: float = 0.0
    correct: bool


def backfill(run: Run) -> list[Result]:
    """Load 20 million bars from CSV and from Parquet, each way once: a load takes a minute."""
    rows = run.rows or run.size(20_000_000, 100_000)
    with run.place() as place:
        run.say(f"backfill: writing {rows:,} bars")
        bars = write_bars(place / "bars", rows)
        with embedded(place / "lake", workers=_WORKERS, spark="off") as system:
            system.wait_ready()
            ours = {kind: _ours(run, system, bars, kind) for kind in _FORMATS}
            live = _live(run, system, bars)
        bare = {kind: _bare(run, place, bars, kind) for kind in _FORMATS}
        with warm_spark(place) as session:
            spark = {kind: _spark(run, session, place, bars, kind) for kind in _FORMATS}
    results = []
    for kind in _FORMATS:
        for suffix, other, name, times in [
            ("", bare[kind], _BARE, 1.5),
            ("_spark", spark[kind], _SPARK, 3),
        ]:
            results.append(
                compared(
                    f"backfill_{kind}{suffix}",
                    rows / ours[kind].seconds,
                    rows / other.seconds,
                    baseline_name=name,
                    unit="rows/s",
                    goal=("at least", times),
                    notes=f"{rows:,} rows by {_WORKERS} workers in {ours[kind].seconds:.1f} s, "
                    f"{name} in {other.seconds:.1f} s{_peak(other)}",
                    correct=ours[kind].correct and other.correct,
                )
            )
    most = max(load.bytes for load in ours.values())
    memory = limited(
        "backfill_memory",
        most / _MB,
        unit="MB",
        goal=("at most", 1500),
        notes=f"the most that a worker and its child had; {rows:,} rows",
    )
    return [*results, memory, live]


def _peak(load: _Load) -> str:
    return f" with {load.bytes / _MB:.0f} MB" if load.bytes else ""


def _ours(run: Run, system: System, bars: Bars, kind: str) -> _Load:
    run.say(f"backfill: {_WORKERS} workers, {kind}")
    with system.client() as client, _most_memory(system) as most:
        began = time.perf_counter()
        _load(client, f"bars_{kind}", bars, kind)
        seconds = time.perf_counter() - began
    correct = bars.are_in(local_lake(system) / f"bars_{kind}")
    return _Load(seconds=seconds, bytes=most[0], correct=correct)


def _load(client: Client, table: str, bars: Bars, kind: str) -> None:
    folder = bars.csv if kind == "csv" else bars.parquet
    client.backfill(table, folder, partition_by=PARTITION_BY).result(PATIENCE)


@contextmanager
def _most_memory(system: System) -> Iterator[list[float]]:
    """Watch the workers, each with its children; the first element is the most one had."""
    most = [0.0]
    ended = threading.Event()

    def look() -> None:
        workers = [psutil.Process(pid) for pid in system.worker_pids]
        while not ended.wait(0.2):
            most[0] = max(most[0], *map(_bytes_of, workers))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        ended.set()
        thread.join()


def _bytes_of(worker: psutil.Process) -> float:
    found = 0.0
    for process in [worker, *worker.children(recursive=True)]:
        try:
            found += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue  # it ended this instant
    return found


def _live(run: Run, system: System, bars: Bars) -> Result:
    """Append to another table, first alone and then while bars are loaded."""
    with system.client() as client:
        run.say("backfill: live appends alone")
        ended = threading.Event()
        idle = [_append(client, number) for number in range(run.size(50, 5) + 1)][1:]
        run.say("backfill: live appends beside a load")
        loaded: list[float] = []
        thread = threading.Thread(target=_append_until, args=(client, ended, loaded))
        future = client.backfill("bars_live", bars.csv, partition_by=PARTITION_BY)
        thread.start()
        future.result(PATIENCE)
        ended.set()
        thread.join()
    return compared(
        "backfill_live",
        statistics.median(loaded),
        statistics.median(idle),
        baseline_name="the same without a backfill",
        unit="ms",
        goal=("at most", 3),
        notes=f"median acknowledgement of {len(loaded)} appends beside a backfill, of {len(idle)} "
        "without",
        correct=bars.are_in(local_lake(system) / "bars_live"),
    )


def _append_until(client: Client, ended: threading.Event, taken: list[float]) -> None:
    number = 1_000
    while not taken or not ended.is_set():
        taken.append(_append(client, number))
        number += 1


def _append(client: Client, number: int) -> float:
    """Append a little, and pause; return the milliseconds until it was committed."""
    rows = frame(0, number)
    began = time.perf_counter()
    client.append("live", rows).result(PATIENCE)
    taken = 1000 * (time.perf_counter() - began)
    time.sleep(_PAUSE)
    return taken


def _bare(run: Run, place: Path, bars: Bars, kind: str) -> _Load:
    run.say(f"backfill: {_BARE}, {kind}")
    folder, table = bars.csv if kind == "csv" else bars.parquet, place / f"bare_{kind}"
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.backfill_bare", kind, str(folder), str(table)],
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(ended.stdout)
    return _Load(seconds=told["seconds"], bytes=told["bytes"], correct=bars.are_in(table))


def _spark(run: Run, session: SparkSession, place: Path, bars: Bars, kind: str) -> _Load:
    run.say(f"backfill: {_SPARK}, {kind}")
    folder, table = bars.csv if kind == "csv" else bars.parquet, place / f"spark_{kind}"
    began = time.perf_counter()
    reader = session.read.option("header", True)
    # Of CSV it would guess the types by reading all of it.
    types = ", ".join(f"{f.name} {_SQL[str(f.type)]}" for f in SCHEMA)
    rows = reader.schema(f"{types}, month string").format(kind).load(str(folder))
    rows.write.format("delta").partitionBy(*PARTITION_BY).save(str(table))
    return _Load(seconds=time.perf_counter() - began, correct=bars.are_in(table))


_SQL = {
    "string": "string",
    "timestamp[us]": "timestamp_ntz",
    "double": "double",
    "int64": "bigint",
}

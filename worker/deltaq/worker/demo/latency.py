"""What the queue costs: one append through deltaq beside the same append made directly."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from deltaq.client import Client
from deltaq.tasks.location import Location
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.settings import Settings
from deltaq.worker.warm import WarmSpark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: Appends of each kind before the clock runs, and those that are timed.
_WARM_UP = 6
_ROUNDS = 11
#: Seconds for Spark's start in this process, and for one append.
_START_WITHIN = 180.0
_APPEND_WITHIN = 60.0

_DIRECT, _IDEMPOTENT = "direct", "direct, idempotent"


@dataclass(frozen=True, kw_only=True)
class Latencies:
    """Medians in seconds of one append on an idle table, by how it was made."""

    #: Through the queue, by engine: Spark, and what the worker chooses if that is another one.
    queued: dict[str, float]
    #: On a warm SparkSession in this process, as most programs would do it.
    direct: float
    #: The same with txnAppId and txnVersion, which make it safe to repeat as ours is.
    direct_idempotent: float


def measure_latencies(
    client: Client, settings: Settings, frame: pa.Table, *, progress: Callable[[], None]
) -> Latencies:
    """Time one append after another, each way in turns, so that all see the same machine.

    Args:
        client: A client of a system that has nothing else to do.
        settings: Of that system; the direct appends go to other tables of its lake.
        frame: The rows of each append.
        progress: Called after every round.

    Raises:
        EngineUnavailable: Spark does not start in this process.
    """
    warm = WarmSpark(settings)
    warm.start()
    try:
        chosen = client.append("latency_chosen", frame).result(_START_WITHIN).engine
        queued = _queued_ways(client, frame, {str(chosen), "spark"})
        direct = _direct_ways(warm.session(_START_WITHIN), settings.lake, frame)
        medians = _in_turns({**queued, **direct}, progress)
    finally:
        warm.stop()
    return Latencies(
        queued={engine: medians[engine] for engine in queued},
        direct=medians[_DIRECT],
        direct_idempotent=medians[_IDEMPOTENT],
    )


def rounds() -> int:
    """Tell how often ``progress`` is called."""
    return _WARM_UP + _ROUNDS


def _in_turns(
    ways: Mapping[str, Callable[[], object]], progress: Callable[[], None]
) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds()):
        for name, append in ways.items():
            began = time.perf_counter()
            append()
            seconds[name].append(time.perf_counter() - began)
        progress()
    return {name: statistics.median(values[_WARM_UP:]) for name, values in seconds.items()}


def _queued_ways(
    client: Client, frame: pa.Table, engines: Iterable[str]
) -> dict[str, Callable[[], object]]:
    def queued(engine: Any) -> Outcome:
        # A table for each: an engine is slower on what another one has just changed.
        future = client.append(f"latency_{engine}", frame, engine=engine)
        return future.result(_APPEND_WITHIN)

    return {engine: partial(queued, engine) for engine in sorted(engines)}


def _direct_ways(
    session: SparkSession, lake: Location, frame: pa.Table
) -> dict[str, Callable[[], object]]:
    versions = count()

    def direct(table: str, **options: str | int) -> None:
        # One partition, hence one file: what a good program does with a small frame.
        rows = session.createDataFrame(frame).coalesce(1)
        rows.write.format("delta").mode("append").options(**options).save(str(lake / table))

    def idempotent() -> None:
        direct("latency_direct_txn", txnAppId="demo", txnVersion=next(versions))

    return {_DIRECT: partial(direct, "latency_direct"), _IDEMPOTENT: idempotent}

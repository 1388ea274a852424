"""How things stand at the moment, read when Prometheus asks."""

from __future__ import annotations

import heapq
import importlib.metadata
import logging
import platform
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from deltaq.tasks.backlog import LaneBacklog, read_backlog, take_cancelled
from deltaq.tasks.connection import Scripts, connect
from deltaq.tasks.errors import DeltaqError
from deltaq.tasks.inbox import LANES
from deltaq.tasks.settings import Settings
from deltaq.worker.health import Health, Heartbeat
from deltaq.worker.pressure import Pressure

logger = logging.getLogger(__name__)

_Label = TypeVar("_Label", bound=str)

#: Seconds for which a look at the queue is good enough, whoever asks.
_FRESH = 2.0
_SPARK_STATES = ("off", "starting", "ready", "failed", "stopped")
#: What :meth:`Health.problems` may name.
_CHECKS = ("worker", "spark", "redis", "lake", "staging")


class QueueGauges(Collector):
    """What waits, in all tables together, and in those that have waited longest.

    Every worker tells the same of one Redis. While Redis does not answer nothing is told. What was
    cancelled is counted on the way, by whichever worker is asked first.

    Args:
        settings: Where Redis is.
        tables: How many tables are named.
        cancelled: Counts requests of a table that were cancelled, given their operation.
    """

    def __init__(
        self, settings: Settings, *, tables: int, cancelled: Callable[[str, str, int], None]
    ) -> None:
        # A connection of its own, that gives up soon: Prometheus does not wait long.
        self._redis = connect(settings, retries=0)
        self._scripts = Scripts(self._redis)
        self._tables = tables
        self._cancelled = cancelled
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._backlog: list[LaneBacklog] | None = None

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Describe nothing, so that being registered asks nobody."""
        return ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read what waits and tell it."""
        backlog = self._fresh()
        if backlog is not None:
            yield from _by_lane(backlog)
            yield from _by_table(backlog, most=self._tables)

    def _fresh(self) -> list[LaneBacklog] | None:
        with self._lock:
            if time.monotonic() >= self._read_at + _FRESH:
                try:
                    self._backlog = read_backlog(self._scripts)
                    for cancelled in take_cancelled(self._scripts):
                        self._cancelled(*cancelled)
                except DeltaqError as exc:
                    logger.info("the queue is not in the metrics: %s", exc)
                    self._backlog = None
                self._read_at = time.monotonic()
            return self._backlog


def _by_lane(backlog: Iterable[LaneBacklog]) -> Iterator[GaugeMetricFamily]:
    requests = dict.fromkeys(LANES, 0)
    size_bytes = dict.fromkeys(LANES, 0)
    oldest = dict.fromkeys(LANES, 0.0)
    tables, retrying = set(), set()
    for lane in backlog:
        requests[lane.lane] += lane.requests
        size_bytes[lane.lane] += lane.size_bytes
        oldest[lane.lane] = max(oldest[lane.lane], lane.oldest_seconds)
        tables.add(lane.table)
        if lane.retrying:
            retrying.add(lane.table)
    yield _labelled("deltaq_queue_requests", "Requests that wait.", "lane", requests)
    yield _labelled("deltaq_queue_bytes", "Staged bytes of what waits.", "lane", size_bytes)
    yield _labelled(
        "deltaq_queue_oldest_seconds", "Age of the request that waits longest.", "lane", oldest
    )
    yield _single("deltaq_queue_tables", "Tables for which requests wait.", len(tables))
    yield _single(
        "deltaq_queue_retrying_tables",
        "Tables that wait for a next try, as the last one failed.",
        len(retrying),
    )


def _by_table(backlog: Iterable[LaneBacklog], *, most: int) -> Iterator[GaugeMetricFamily]:
    requests: defaultdict[str, int] = defaultdict(int)
    oldest: defaultdict[str, float] = defaultdict(float)
    for lane in backlog:
        requests[lane.table] += lane.requests
        oldest[lane.table] = max(oldest[lane.table], lane.oldest_seconds)
    named = heapq.nlargest(most, oldest, key=lambda table: (oldest[table], table))
    yield _labelled(
        "deltaq_table_queue_oldest_seconds",
        "Age of the oldest request of a table; of the tables that have waited longest.",
        "table",
        {table: oldest[table] for table in named},
    )
    yield _labelled(
        "deltaq_table_queue_requests",
        "Requests that wait for a table; of the tables that have waited longest.",
        "table",
        {table: requests[table] for table in named},
    )


class WorkerGauges(Collector):
    """How this worker is, and which others there are.

    Args:
        settings: The settings.
        health: Of this worker.
        heartbeat: Knows the others.
        left_out: Tells of how many tasks Flower was not told all.
    """

    def __init__(
        self,
        settings: Settings,
        health: Health,
        heartbeat: Heartbeat,
        *,
        left_out: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._health = health
        self._heartbeat = heartbeat
        self._left_out = left_out
        self._pressure = Pressure.of(settings)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Describe nothing, so that being registered asks nobody."""
        return ()

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Tell how things stand."""
        facts = self._health.facts()
        yield _build()
        yield _single("deltaq_ready", "1 if the worker is ready.", not facts.problems)
        yield _labelled(
            "deltaq_problem",
            "1 if this keeps the worker from being ready; /readyz says why.",
            "check",
            {check: check in facts.problems for check in _CHECKS},
        )
        yield _labelled(
            "deltaq_spark_state",
            "1 for the state in which Spark is.",
            "state",
            {state: state == facts.spark for state in _SPARK_STATES},
        )
        yield _single("deltaq_slots", "Tasks that the worker can run at once.", facts.slots)
        yield _single("deltaq_slots_busy", "Tasks that it runs.", facts.busy)
        yield _single(
            "deltaq_worker_memory_bytes", "Resident memory without the JVM.", facts.memory_bytes
        )
        yield _single(
            "deltaq_jvm_memory_bytes", "Resident memory of Spark's JVM.", facts.jvm_memory_bytes
        )
        yield _single(
            "deltaq_memory_used_ratio",
            "Share of the memory of the machine, or of the container, that is used.",
            self._pressure.used(),
        )
        yield from self._disks()
        yield from self._workers()
        yield CounterMetricFamily(
            "deltaq_events_left_out",
            "Requests and tasks of which Flower was not told all (events_per_second).",
            value=self._left_out(),
        )

    def _disks(self) -> Iterator[GaugeMetricFamily]:
        disks = self._health.disks
        free = {name: disk.free_bytes for name, disk in disks.found.items()}
        size = {name: disk.size_bytes for name, disk in disks.found.items()}
        yield _labelled("deltaq_disk_free_bytes", "Room left on a disk.", "folder", free)
        yield _labelled("deltaq_disk_size_bytes", "Size of a disk.", "folder", size)
        yield _single(
            "deltaq_disk_min_free_bytes",
            "Room below which requests are refused (staging_min_free_bytes).",
            self._settings.staging_min_free_bytes,
        )
        yield _single("deltaq_dead_letters", "Dead letters that are kept.", disks.dead_letters)

    def _workers(self) -> Iterator[GaugeMetricFamily]:
        workers = self._heartbeat.workers
        lost = [worker for worker in workers if worker.is_lost]
        unready = sum(1 for w in workers if w.facts.problems and not w.is_lost)
        yield _labelled(
            "deltaq_workers",
            "Workers on this Redis, by their signs of life.",
            "state",
            {
                "ready": len(workers) - len(lost) - unready,
                "not_ready": unready,
                "lost": len(lost),
            },
        )
        yield _labelled(
            "deltaq_lost_worker_silent_seconds",
            "How long a worker has been silent that did not say goodbye.",
            "worker",
            {worker.facts.name: worker.silent_seconds for worker in lost},
        )


@cache
def _build() -> GaugeMetricFamily:
    versions = {"python": platform.python_version()}
    for package in ("deltaq", "deltalake", "pyspark"):
        versions[package] = importlib.metadata.version(package)
    family = GaugeMetricFamily(
        "deltaq_build_info", "1, with the versions of what runs here.", labels=list(versions)
    )
    family.add_metric(list(versions.values()), 1)
    return family


def _single(name: str, says: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, says, value=value)


def _labelled(
    name: str, says: str, label: str, values: Mapping[_Label, float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, says, labels=[label])
    for labelled, value in values.items():
        family.add_metric([labelled], value)
    return family

"""Whether this worker can do its work, and what it and the others tell of themselves."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import psutil
import redis
from celery.worker import state

from deltaq.tasks.connection import Scripts, connect
from deltaq.tasks.errors import DeltaqError
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.request import Lane, Request
from deltaq.tasks.settings import Settings
from deltaq.tasks.workers import (
    BEAT_EVERY,
    LOST_AFTER,
    WorkerFacts,
    WorkerStatus,
    beat,
    leave,
    read_workers,
)
from deltaq.worker.disks import Disks
from deltaq.worker.observers import GroupCommitted, Observer
from deltaq.worker.warm import WarmSpark, WarmState

logger = logging.getLogger(__name__)

#: Seconds between two looks at all workers, for each there is: from 100 on they look less often
#: than they give signs, or the work of Redis would grow with the square of their number.
_LOOK_PER_WORKER = 0.02


class Health:
    """What can be said of one worker at any time, without waiting for anything.

    Args:
        settings: The settings.
        name: Of the worker.
        warm: Its Spark, if it has one.
        stopping: Set when the worker shall end.
    """

    def __init__(
        self, settings: Settings, *, name: str, warm: WarmSpark | None, stopping: threading.Event
    ) -> None:
        self.disks = Disks(settings)
        self.serving = threading.Event()
        #: Whether Redis answers; of the heartbeat, which asks it all the time.
        self.redis = _RedisHeard()
        self.work = WorkCount()
        self._settings = settings
        self._name = name
        self._warm = warm
        self._stopping = stopping
        self._began = time.monotonic()
        self._process = psutil.Process()
        self._version = importlib.metadata.version("deltaq")

    @property
    def engines(self) -> dict[str, str]:
        """Where each engine stands: ``off``, ``ready``, or the state of Spark."""
        native = "off" if self._settings.engine == "spark" else "ready"
        return {"native": native, "spark": "off" if self._warm is None else str(self._warm.state)}

    def problems(self) -> dict[str, str]:
        """Say why the worker is not ready, by what was checked; empty when it is."""
        found = {}
        if self._stopping.is_set():
            found["worker"] = "it was told to stop, and finishes what it has begun"
        elif not self.serving.is_set():
            found["worker"] = "it starts, and takes no work so far"
        spark = self.engines["spark"]
        if self._warm is not None and spark != WarmState.READY:
            error = self._warm.error
            found["spark"] = f"Spark is {spark}" if error is None else error.message
        if (unheard := self.redis.problem()) is not None:
            found["redis"] = unheard
        return {**found, **self.disks.problems()}

    def facts(self) -> WorkerFacts:
        """Tell of the worker what others want to know."""
        return WorkerFacts(
            name=self._name,
            version=self._version,
            pid=os.getpid(),
            up_seconds=round(time.monotonic() - self._began, 3),
            queues=self._settings.queues,
            slots=self._settings.concurrency,
            busy=len(state.active_requests),
            commits=self.work.commits,
            settled=self.work.requests,
            spark=self.engines["spark"],
            memory_bytes=self._process.memory_info().rss,
            jvm_memory_bytes=_resident_bytes(self._warm.jvm_pid if self._warm else None),
            problems=self.problems(),
        )


class WorkCount(Observer):
    """How many commits a worker has made, and how many requests came to an outcome by it."""

    def __init__(self) -> None:
        self.commits = 0
        self.requests = 0
        self._lock = threading.Lock()

    def group_committed(self, commit: GroupCommitted) -> None:
        """Count it."""
        with self._lock:
            self.commits += 1

    def settled(self, lane: Lane, outcomes: Sequence[Outcome], requests: Sequence[Request]) -> None:
        """Count them."""
        with self._lock:
            self.requests += len(outcomes)


@dataclass(eq=False)
class _RedisHeard:
    """When Redis answered last, and what went wrong since."""

    at: float = field(default_factory=time.monotonic)
    error: str | None = None

    def problem(self) -> str | None:
        if self.error is not None:
            return self.error
        silent = time.monotonic() - self.at
        return f"no answer for {silent:.0f} s" if silent > LOST_AFTER else None


class Heartbeat:
    """Tells Redis that a worker is alive, and hears who else is, in a thread of its own.

    Args:
        settings: Where Redis is.
        health: Of the worker.
    """

    def __init__(self, settings: Settings, health: Health) -> None:
        # A connection of its own: the worker's may all be busy.
        self._redis: redis.Redis = connect(settings, retries=0)
        self._scripts = Scripts(self._redis)
        self._health = health
        self._closing = threading.Event()
        self._workers: list[WorkerStatus] = []
        self._look_at = 0.0
        self._thread = threading.Thread(target=self._run, name="deltaq-heartbeat", daemon=True)

    @property
    def workers(self) -> list[WorkerStatus]:
        """All workers on this Redis, as it told lately; the lost ones too."""
        return self._workers

    def start(self) -> None:
        """Give a sign of life now, and then every other second."""
        self._thread.start()

    def close(self) -> None:
        """Say goodbye, so that nobody takes the worker for lost."""
        self._closing.set()
        if self._thread.ident is None:
            return
        self._thread.join()
        try:
            leave(self._redis, self._health.facts().name)
        except DeltaqError as exc:
            logger.info("no goodbye: %s; the worker will be taken for lost", exc)
        self._redis.close()

    def _run(self) -> None:
        while True:
            try:
                self.beat()
            except Exception:
                # Whatever it was, the next sign of life must be given.
                logger.exception("no sign of life")
            if self._closing.wait(BEAT_EVERY):
                return

    def beat(self) -> None:
        """Give one sign of life; that Redis does not answer is noted, not raised."""
        heard = self._health.redis
        try:
            beat(self._scripts, self._health.facts())
            if time.monotonic() >= self._look_at:
                self._workers = read_workers(self._redis)
                self._look_at = time.monotonic() + _LOOK_PER_WORKER * len(self._workers)
        except DeltaqError as exc:
            if heard.error is None:
                logger.warning("no sign of life given: %s", exc)
            heard.error = exc.message
        else:
            heard.at, heard.error = time.monotonic(), None


def _resident_bytes(pid: int | None) -> int:
    if pid is None:
        return 0
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0  # it has just ended

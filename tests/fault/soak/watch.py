"""What processes hold over time."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

import psutil
import redis

from deltaq.worker import System

#: Seconds between two looks.
_INTERVAL = 1.0
MiB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A look at one moment; seconds since the watch began."""

    seconds: float
    worker_bytes: int
    worker_files: int
    worker_threads: int
    writer_bytes: int
    writer_files: int
    redis_bytes: int


class Watch:
    """Looks at a worker, a program with writers, and Redis, in a thread of its own."""

    def __init__(self, system: System, *, worker: int, writer: int) -> None:
        self.samples: list[Sample] = []
        self._system = system
        self._worker, self._writer = psutil.Process(worker), psutil.Process(writer)
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")

    def _run(self) -> None:
        redis_bytes = 0
        with self._system.redis.connect() as client:
            while not self._ended.wait(_INTERVAL):
                # While it is down, which is part of it, the last number stands.
                with contextlib.suppress(redis.exceptions.RedisError):
                    redis_bytes = client.info("memory")["used_memory"]
                self.samples.append(self._look(redis_bytes))

    def _look(self, redis_bytes: int) -> Sample:
        worker, writer = self._worker, self._writer
        return Sample(
            seconds=round(time.monotonic() - self._began, 1),
            worker_bytes=worker.memory_info().rss,
            worker_files=worker.num_fds(),
            worker_threads=worker.num_threads(),
            writer_bytes=writer.memory_info().rss,
            writer_files=writer.num_fds(),
            redis_bytes=redis_bytes,
        )

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def growth(values: Iterable[int]) -> tuple[int, int]:
    """Return the median of the second fifth and of the last: the first is warming up."""
    held = list(values)
    fifth = max(1, len(held) // 5)
    return int(statistics.median(held[fifth : 2 * fifth])), int(statistics.median(held[-fifth:]))

"""Spark jobs of this process's threads: named, so that they can be ended, and in fair shares."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_POOL = "spark.scheduler.pool"


class Jobs:
    """Gives those who run jobs at the same time equal shares of the executors.

    Spark never forgets a pool, and looks through all of them for each task. So there are as many as
    were needed at once, and who comes gets one that nobody has.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: dict[str, int] = {}
        self._pools: dict[str, str] = {}
        self._free: list[str] = []
        self._made = 0

    @contextmanager
    def run(self, session: SparkSession, name: str, *, share: str) -> Iterator[None]:
        """Run this thread's jobs in a block under a name.

        Both are reset at the end: the JVM's thread goes on to serve this one of ours.

        Args:
            session: Runs the jobs.
            name: By which they are cancelled.
            share: What has one share, however many threads work for it: a table.
        """
        context = session.sparkContext
        pool = self._enter(share)
        try:
            context.setJobGroup(name, name, interruptOnCancel=True)
            context.setLocalProperty(_POOL, pool)
            try:
                yield
            finally:
                context.setLocalProperty(_POOL, None)  # type: ignore[arg-type]  # as Java removes it
                context._jsc.clearJobGroup()
        finally:
            self._leave(share)

    def _enter(self, share: str) -> str:
        with self._lock:
            self._users[share] = self._users.get(share, 0) + 1
            if share not in self._pools:
                if not self._free:
                    self._made += 1
                    self._free.append(f"share {self._made}")
                self._pools[share] = self._free.pop()
            return self._pools[share]

    def _leave(self, share: str) -> None:
        with self._lock:
            self._users[share] -= 1
            if not self._users[share]:
                del self._users[share]
                self._free.append(self._pools.pop(share))

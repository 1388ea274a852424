"""What ``deltaq status`` and ``deltaq top`` look at, again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import msgspec

from deltaq.tasks.connection import connect
from deltaq.tasks.errors import DeltaqError
from deltaq.tasks.location import Location, table_names
from deltaq.tasks.settings import Settings
from deltaq.tasks.staging import StagingArea
from deltaq.tasks.status import StatusReader, TableStatus
from deltaq.tasks.workers import WorkerFacts, WorkerStatus, read_workers

#: Tables that are looked at again although nothing waits for them any more.
_MOST_REMEMBERED = 1000
#: Folders and dead letters that are counted.
_MOST_COUNTED = 10_000
#: Seconds between two looks at the disk, which may be a slow one far away.
_DISK_EVERY = 5.0


class Look(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One look at the queue.

    Attributes:
        tables: Those for which requests wait, or did at the last look.
        idle_tables: Those in the lake for which none wait, as far as this machine sees the lake.
        rates: Requests settled in a second since the last look, by table; of tables for which
            requests waited at both.
        settled_per_second: Requests of all tables that the workers settled, between their last two
            signs of life.
        commits_per_second: Commits that they made in that time.
        workers: Those that run, and those that lately went silent.
        dead_letters: How many requests are given up.
        unseen: Why the lake's tables and the dead letters are those of an earlier look.
        problem: Why there was nothing to see.
    """

    tables: list[TableStatus] = []
    idle_tables: int = 0
    rates: dict[str, float] = {}
    settled_per_second: float = 0.0
    commits_per_second: float = 0.0
    workers: list[WorkerStatus] = []
    dead_letters: int = 0
    unseen: str | None = None
    problem: str | None = None


class Watcher:
    """Looks at the queue and remembers the last look.

    Args:
        settings: The settings.
    """

    def __init__(self, settings: Settings) -> None:
        self._redis = connect(settings, retries=0)
        self._reader = StatusReader(self._redis)
        self._disk = _Disk(settings)
        self._settling = _Pace(lambda facts: facts.settled)
        self._committing = _Pace(lambda facts: facts.commits)
        self._settled: dict[str, int] = {}
        self._at = 0.0

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: Any) -> None:
        self._redis.close()

    def look(self) -> Look:
        """Look once.

        Raises:
            QueueUnavailable: Redis did not answer.
        """
        now = time.monotonic()
        tables = self._reader.read(also=self._settled)
        rates = {
            t.table: max(0, t.settled - self._settled[t.table]) / (now - self._at)
            for t in tables
            if t.table in self._settled
        }
        busy = (t for t in tables if t.lanes or rates.get(t.table))
        self._settled = {t.table: t.settled for t in islice(busy, _MOST_REMEMBERED)}
        self._at = now
        self._disk.look()
        workers = read_workers(self._redis)
        return Look(
            tables=tables,
            idle_tables=len(self._disk.tables.difference(t.table for t in tables if t.lanes)),
            rates=rates,
            settled_per_second=self._settling.per_second(workers),
            commits_per_second=self._committing.per_second(workers),
            workers=workers,
            dead_letters=self._disk.dead_letters,
            unseen=self._disk.unseen,
        )

    def look_or_tell(self) -> Look:
        """Look once; where Redis does not answer, that is what there is to see."""
        try:
            return self.look()
        except DeltaqError as exc:
            return Look(problem=str(exc))


class _Pace:
    """How fast a count of workers grows, by their own clocks: looks and signs of life differ."""

    def __init__(self, count: Callable[[WorkerFacts], int]) -> None:
        self._count = count
        self._last: dict[str, WorkerFacts] = {}
        self._rates: dict[str, float] = {}

    def per_second(self, workers: Sequence[WorkerStatus]) -> float:
        alive = {worker.facts.name: worker.facts for worker in workers if not worker.is_lost}
        self._rates = {name: self._rate(facts) for name, facts in alive.items()}
        self._last = alive
        return sum(self._rates.values())

    def _rate(self, facts: WorkerFacts) -> float:
        last = self._last.get(facts.name)
        if last is None or last.up_seconds > facts.up_seconds:  # another one under its name
            return 0.0
        if last.up_seconds == facts.up_seconds:  # no sign of life since
            return self._rates[facts.name]
        return (self._count(facts) - self._count(last)) / (facts.up_seconds - last.up_seconds)


class _Disk:
    """What the folders of lake and staging area tell."""

    def __init__(self, settings: Settings) -> None:
        self._lake: Location = settings.lake
        self._graves = StagingArea(settings.staging_root).root / "dead"
        self._due = 0.0
        self.tables: set[str] = set()
        self.dead_letters = 0
        self.unseen: str | None = None

    def look(self) -> None:
        if time.monotonic() < self._due:
            return
        try:
            self.tables = set(islice(table_names(self._lake), _MOST_COUNTED))
            letters = islice(self._graves.glob("*/*.json"), _MOST_COUNTED)
            self.dead_letters = sum(1 for _ in letters)
            self.unseen = None
        except OSError as exc:
            self.unseen = f"{self._lake}: cannot be looked at: {exc.strerror or exc}"
        self._due = time.monotonic() + _DISK_EVERY

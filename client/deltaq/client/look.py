"""What ``deltaq status`` looks at, again and again."""

from __future__ import annotations

import time
from itertools import islice
from typing import Any

import msgspec

from deltaq.tasks.connection import connect
from deltaq.tasks.settings import Settings
from deltaq.tasks.staging import StagingArea
from deltaq.tasks.status import TableStatus, read_status

#: Tables that are looked at again although nothing waits for them any more.
_MOST_REMEMBERED = 1000
#: Dead letters that are counted.
_MOST_DEAD = 10_000


class Look(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One look at the queue.

    Attributes:
        tables: Those for which requests wait, or did at the last look.
        rates: Requests settled in a second since the last look, by table.
        dead_letters: How many requests are given up.
        problem: Why there was nothing to see.
    """

    tables: list[TableStatus] = []
    rates: dict[str, float] = {}
    dead_letters: int = 0
    problem: str | None = None


class Watcher:
    """Looks at the queue and remembers the last look.

    Args:
        settings: The settings.
    """

    def __init__(self, settings: Settings) -> None:
        self._redis = connect(settings, retries=0)
        self._graves = StagingArea(settings.staging_root).root / "dead"
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
        tables = read_status(self._redis, also=self._settled)
        rates = {
            t.table: max(0, t.settled - self._settled[t.table]) / (now - self._at)
            for t in tables
            if t.table in self._settled
        }
        busy = (t for t in tables if t.lanes or rates.get(t.table))
        self._settled = {t.table: t.settled for t in islice(busy, _MOST_REMEMBERED)}
        self._at = now
        letters = islice(self._graves.glob("*/*.json"), _MOST_DEAD)
        return Look(tables=tables, rates=rates, dead_letters=sum(1 for _ in letters))

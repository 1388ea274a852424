"""Which versions of tables are being read now, by any worker, so that a vacuum leaves them alone.

Each read is a member of a sorted set of its table in Redis, whose score is when it is no longer
believed. It says since when it reads, and which version if not the newest.
"""

from __future__ import annotations

import contextlib
import logging
import math
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import redis

from deltaq.tasks import keys
from deltaq.tasks.connection import queue_errors
from deltaq.tasks.errors import DeltaqError
from deltaq.tasks.location import Location
from deltaq.worker.lake import Lake
from deltaq.worker.ledger import is_older, log_entries

logger = logging.getLogger(__name__)

#: Seconds for which a read is believed that its worker does not renew, and between two renewals.
_BELIEVED, _RENEWED = 60.0, 15.0
#: Seconds by which the clocks of readers and of those who vacuum may differ.
_CLOCKS_APART = 60.0


class _Mark(msgspec.Struct, array_like=True, frozen=True):
    """One read, as it is kept."""

    token: str
    since: float
    version: int | None


@dataclass(frozen=True, kw_only=True)
class InUse:
    """What reads need of a table.

    Attributes:
        hours: Hours, rounded up, since the first read of what was then the newest version began.
        versions: Others that are read.
    """

    hours: int = 0
    versions: tuple[int, ...] = ()


class OpenReads:
    """Notes reads and tells of them. Every method may be called by any thread. Close it.

    Args:
        client: Connections to the queue's Redis.
        lake: Where the tables are.
    """

    def __init__(self, client: redis.Redis, lake: Lake) -> None:
        self._client = client
        self._lake = lake
        self._held: set[tuple[str, bytes]] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def hold(
        self, tables: Iterable[str], *, version: int | None = None, timestamp: float | None = None
    ) -> Iterator[None]:
        """Note that tables are read while the block runs.

        Args:
            tables: Their names.
            version: The version that is read; the newest one if nothing is said.
            timestamp: When what is read was the newest, seconds since 1970.

        Raises:
            QueueUnavailable: Nobody can be told; the block is not run.
        """
        held = {(table, self._mark(table, version, timestamp)) for table in tables}
        with self._lock:
            self._held |= held
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._renew, name="deltaq-open-reads", daemon=True
                )
                self._thread.start()
        try:
            self._note(held)
            yield
        finally:
            with self._lock:
                self._held -= held
            try:
                self._forget(held)
            except DeltaqError as exc:
                logger.info("a read that ended is believed for some time: %s", exc)

    def of(self, table: str) -> InUse:
        """Tell what is being read of a table.

        Raises:
            QueueUnavailable: Redis does not answer.
        """
        now = time.time()
        with queue_errors():
            members: Any = self._client.zrangebyscore(keys.open_reads(table), now, "+inf")
        marks = [msgspec.json.decode(member, type=_Mark) for member in members]
        newest = [mark.since for mark in marks if mark.version is None]
        seconds = now - min(newest) + _CLOCKS_APART if newest else 0.0
        return InUse(
            hours=math.ceil(seconds / 3600),
            versions=tuple(sorted({m.version for m in marks if m.version is not None})),
        )

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        with self._lock:
            if self._thread is not None:
                self._thread.join()

    def _mark(self, table: str, version: int | None, timestamp: float | None) -> bytes:
        if timestamp is not None:
            version = _version_at(self._lake.path(table), timestamp)
        mark = _Mark(token=secrets.token_hex(8), since=round(time.time(), 3), version=version)
        return msgspec.json.encode(mark)

    def _note(self, held: Iterable[tuple[str, bytes]]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for table, mark in held:
            pipeline.zadd(keys.open_reads(table), {mark: time.time() + _BELIEVED})
            pipeline.expire(keys.open_reads(table), int(2 * _BELIEVED))
        with queue_errors():
            pipeline.execute()

    def _forget(self, held: Iterable[tuple[str, bytes]]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for table, mark in held:
            pipeline.zrem(keys.open_reads(table), mark)
        with queue_errors():
            pipeline.execute()

    def _renew(self) -> None:
        while not self._closing.wait(_RENEWED):
            with self._lock:
                held = list(self._held)
            try:
                self._note(held)
            except DeltaqError as exc:
                logger.warning("%d reads are not known to those who vacuum: %s", len(held), exc)


def _version_at(table: Location, moment: float) -> int | None:
    """Find the version that was the newest at a time; None if the log does not tell."""
    for entry in log_entries(table):
        if is_older(entry, moment):
            return int(entry.stem)
    return None

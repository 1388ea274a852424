"""What waits for each table, who is at it, and what keeps it from going on."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import redis

from deltaq.tasks import keys
from deltaq.tasks.connection import queue_errors
from deltaq.tasks.inbox import LANES
from deltaq.tasks.request import Lane

#: Tables looked at in one round trip.
_TABLES_AT_ONCE = 250
#: Commands for each of them: the lease, the sequences, then length and head of each lane.
_COMMANDS = 2 + 2 * len(LANES)


@dataclass(frozen=True, kw_only=True)
class LaneStatus:
    """What waits in one lane of a table.

    Attributes:
        requests: How many requests.
        size_bytes: Of their staged files.
        oldest_seconds: Since the first of them was submitted, by its client's clock.
    """

    requests: int
    size_bytes: int
    oldest_seconds: float


@dataclass(frozen=True, kw_only=True)
class Retrying:
    """Why a table does not go on; what it is waiting for will be tried again.

    Attributes:
        error: What went wrong the last time.
        tries: How often it was tried.
        since_seconds: Since the first of these tries.
        next_seconds: Until the next one; 0 when it is due.
    """

    error: str
    tries: int
    since_seconds: float
    next_seconds: float


@dataclass(frozen=True, kw_only=True)
class TableStatus:
    """A table for which requests wait.

    Attributes:
        table: Its name.
        lanes: Those in which requests wait.
        holder: The worker that has its lease, None if nobody has.
        retrying: Set when its requests fail for reasons that may pass.
        settled: Requests that left its lanes since Redis began to count; their rate tells how
            fast it goes on.

    Examples:
        >>> for table in client.status():
        ...     print(table.table, table.holder, sum(n.requests for n in table.lanes.values()))
    """

    table: str
    lanes: dict[Lane, LaneStatus]
    holder: str | None
    retrying: Retrying | None
    settled: int = 0


class _Head(msgspec.Struct):
    """What is read of a request, whatever its wire version."""

    submitted_at_ms: int = 0


class _Retry(msgspec.Struct):
    """As retry.lua writes it; times by the clock of Redis."""

    error: str
    tries: int
    since_ms: int
    next_ms: int


def read_status(client: redis.Redis, *, also: Iterable[str] = ()) -> list[TableStatus]:
    """List the tables for which requests wait, by name.

    Args:
        client: Connections to the queue's Redis.
        also: Names of tables to list in any case.

    Raises:
        QueueUnavailable: Redis did not answer.
    """
    with queue_errors():
        members: Any = client.smembers(keys.TABLES)
        wanted = set(also)
        names = sorted(wanted | members)
        chunks = (
            names[start : start + _TABLES_AT_ONCE]
            for start in range(0, len(names), _TABLES_AT_ONCE)
        )
        return [
            status
            for chunk in chunks
            for status in _read(client, chunk)
            if status.lanes or status.table in wanted
        ]


def _read(client: redis.Redis, tables: Sequence[str]) -> list[TableStatus]:
    pipeline = client.pipeline(transaction=False)
    pipeline.time()
    for table in tables:
        pipeline.hget(keys.lease(table), "holder")
        pipeline.hmget(keys.seq(table), "retry", *(f"bytes:{lane}" for lane in LANES), *LANES)
        for lane in LANES:
            pipeline.xlen(keys.inbox(table, lane))
            pipeline.xrange(keys.inbox(table, lane), count=1)
    (seconds, microseconds), *answers = pipeline.execute()
    now_ms = seconds * 1000 + microseconds // 1000
    return [
        _status(table, answers[place * _COMMANDS : (place + 1) * _COMMANDS], now_ms)
        for place, table in enumerate(tables)
    ]


def _status(table: str, answers: Sequence[Any], now_ms: int) -> TableStatus:
    holder, (retry, *numbers), *inboxes = answers
    sizes, sequences = numbers[: len(LANES)], numbers[len(LANES) :]
    lanes = {
        lane: LaneStatus(
            requests=waiting, size_bytes=int(size or 0), oldest_seconds=_age(head[0][1]["r"])
        )
        for lane, size, waiting, head in zip(LANES, sizes, inboxes[::2], inboxes[1::2], strict=True)
        if waiting and head
    }
    return TableStatus(
        table=table,
        lanes=lanes,
        holder=holder,
        retrying=_retrying(retry, now_ms) if retry else None,
        settled=sum(int(last or 0) for last in sequences) - sum(inboxes[::2]),
    )


def _age(wire: str) -> float:
    try:
        submitted_at_ms = msgspec.json.decode(wire, type=_Head).submitted_at_ms
    except msgspec.MsgspecError:
        return 0.0  # no request; the committer refuses it
    return max(0.0, round(time.time() - submitted_at_ms / 1000, 3))


def _retrying(retry: str, now_ms: int) -> Retrying:
    noted = msgspec.json.decode(retry, type=_Retry)
    return Retrying(
        error=noted.error,
        tries=noted.tries,
        since_seconds=max(0, now_ms - noted.since_ms) / 1000,
        next_seconds=max(0, noted.next_ms - now_ms) / 1000,
    )

"""What waits for each table, who is at it, and what keeps it from going on."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import redis

from deltaq.tasks import keys
from deltaq.tasks.connection import Scripts, queue_errors
from deltaq.tasks.inbox import LANES
from deltaq.tasks.request import Lane
from deltaq.tasks.slices import Slices, decode_slices

#: Tables looked at in one call, so that commits get in between: 2 ms.
_TABLES_AT_ONCE = 250
#: What status.lua tells of each of them.
_ANSWERS = 3 + 4 * len(LANES)


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
        slices: How far the request came that is done in slices, if one is begun.
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
    slices: Slices | None = None


class _Head(msgspec.Struct):
    """What is read of a request, whatever its wire version."""

    submitted_at_ms: int = 0
    request_id: str = ""


class _Retry(msgspec.Struct):
    """As retry.lua writes it; times by the clock of Redis."""

    error: str
    tries: int
    since_ms: int
    next_ms: int


def read_status(client: redis.Redis) -> list[TableStatus]:
    """List the tables for which requests wait, by name.

    Args:
        client: Connections to the queue's Redis.

    Raises:
        QueueUnavailable: Redis did not answer.
    """
    return StatusReader(client).read()


class StatusReader:
    """Reads what waits, as often as one likes: a thousand tables take some milliseconds.

    Args:
        client: Connections to the queue's Redis.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._scripts = Scripts(client)

    def read(self, *, also: Iterable[str] = ()) -> list[TableStatus]:
        """List the tables for which requests wait, by name.

        Args:
            also: Names of tables to list in any case.

        Raises:
            QueueUnavailable: Redis did not answer.
        """
        with queue_errors():
            members: Any = self._client.smembers(keys.TABLES)
        wanted = set(also)
        names = sorted(wanted | members)
        return [
            status
            for start in range(0, len(names), _TABLES_AT_ONCE)
            for status in self._read(names[start : start + _TABLES_AT_ONCE])
            if status.lanes or status.table in wanted
        ]

    def _read(self, tables: Sequence[str]) -> list[TableStatus]:
        arguments = [len(LANES), *LANES, *tables]
        now_ms, *told = self._scripts.run("status", [], arguments)
        return [
            _status(table, told[place * _ANSWERS : (place + 1) * _ANSWERS], now_ms)
            for place, table in enumerate(tables)
        ]


def _status(table: str, answers: Sequence[Any], now_ms: int) -> TableStatus:
    holder, retry, sliced, *by_lane = answers
    heads = [_head(wire or "") for wire in by_lane[1::4]]
    lanes = {
        lane: LaneStatus(requests=waiting, size_bytes=int(size or 0), oldest_seconds=_age(head))
        for lane, waiting, head, size in zip(LANES, by_lane[::4], heads, by_lane[2::4], strict=True)
        if waiting
    }
    begun = (decode_slices(sliced, head.request_id) for head in heads)
    return TableStatus(
        table=table,
        lanes=lanes,
        holder=holder,
        retrying=_retrying(retry, now_ms) if retry else None,
        settled=sum(int(last or 0) for last in by_lane[3::4]) - sum(by_lane[::4]),
        slices=next(filter(None, begun), None),
    )


def _head(wire: str) -> _Head:
    try:
        return msgspec.json.decode(wire, type=_Head)
    except msgspec.MsgspecError:
        return _Head()  # no request; the committer refuses it


def _age(head: _Head) -> float:
    if not head.submitted_at_ms:
        return 0.0
    return max(0.0, round(time.time() - head.submitted_at_ms / 1000, 3))


def _retrying(retry: str, now_ms: int) -> Retrying:
    noted = msgspec.json.decode(retry, type=_Retry)
    return Retrying(
        error=noted.error,
        tries=noted.tries,
        since_seconds=max(0, now_ms - noted.since_ms) / 1000,
        next_seconds=max(0, noted.next_ms - now_ms) / 1000,
    )

"""What waits in all lanes of all tables, and what was cancelled, in figures: cheap to ask for."""

from __future__ import annotations

from dataclasses import dataclass

from deltaq.tasks import keys
from deltaq.tasks.connection import Scripts
from deltaq.tasks.inbox import LANES
from deltaq.tasks.request import Lane

#: Tables looked at in one call, which Redis is busy with for about two milliseconds.
_TABLES_AT_ONCE = 250


@dataclass(frozen=True, kw_only=True)
class LaneBacklog:
    """What waits in one lane of a table.

    Attributes:
        table: The table.
        lane: The lane.
        requests: How many wait; never 0.
        size_bytes: Of their staged files.
        oldest_seconds: Since the first of them was submitted, from its client's clock to Redis'.
        retrying: Whether the table is tried again for reasons that may pass.
    """

    table: str
    lane: Lane
    requests: int
    size_bytes: int
    oldest_seconds: float
    retrying: bool


def read_backlog(scripts: Scripts) -> list[LaneBacklog]:
    """List the lanes in which requests wait, in no order.

    Raises:
        QueueUnavailable: Redis did not answer.
    """
    found: dict[tuple[str, str], LaneBacklog] = {}
    cursor = "0"
    while True:
        cursor, now_ms, *values = scripts.run(
            "backlog", [keys.TABLES], [cursor, _TABLES_AT_ONCE, *LANES]
        )
        for table, lane, requests, size_bytes, submitted_ms, retrying in zip(
            *[iter(values)] * 6, strict=True
        ):
            age_ms = max(0, now_ms - submitted_ms) if submitted_ms else 0
            found[table, lane] = LaneBacklog(
                table=table,
                lane=Lane(lane),
                requests=requests,
                size_bytes=size_bytes,
                oldest_seconds=age_ms / 1000,
                retrying=bool(retrying),
            )
        if cursor == "0":
            return list(found.values())


def take_cancelled(scripts: Scripts) -> list[tuple[str, str, int]]:
    """Take the counts of requests that were cancelled: table, operation and how many.

    Each cancellation is told once, to whoever asks first.

    Raises:
        QueueUnavailable: Redis did not answer.
    """
    told = iter(scripts.run("cancelled", [keys.CANCELLED], []))
    found = []
    for counted_as, count in zip(told, told, strict=True):
        table, _, operation = counted_as.rpartition(" ")
        found.append((table, operation, int(count)))
    return found

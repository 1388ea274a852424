"""What the writers of the soak do, and what a table must hold when it is done in some order.

Everything follows from table, writer and number, which are the request's id: the log of a table
alone tells what its rows must be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pyarrow as pa

from deltaq.client import Client
from deltaq.tasks.request import EngineName

WRITERS = 20
#: Writers whose requests go into the bulk lane, one in so many.
_BULK_EVERY = 5
#: Rows that one request brings.
_ROWS = 3
#: Keys that the merges of all writers share: who is last wins.
_SHARED_KEYS = 50
#: Older rows of its own are what a writer deletes.
_KEPT = 20


class Kind(StrEnum):
    """What one request does."""

    APPEND = "append"
    MERGE = "merge"
    DELETE = "delete"  # what the writer itself appended long ago
    REPLACE = "replace"  # an overwrite of the writer's own rows
    OVERWRITE = "overwrite"  # of all rows
    BAD = "bad"  # an append that must fail


#: What each writer does on each table, over and over.
CYCLES: dict[str, tuple[Kind, ...]] = {
    "appended": (Kind.APPEND,),
    "merged": (Kind.MERGE, Kind.MERGE, Kind.APPEND, Kind.MERGE, Kind.DELETE),
    "mixed": (
        *(Kind.APPEND, Kind.APPEND, Kind.MERGE, Kind.BAD, Kind.APPEND, Kind.DELETE),
        *(Kind.APPEND, Kind.REPLACE, Kind.APPEND, Kind.MERGE),
    ),
    "replaced": (*[Kind.APPEND] * 6, Kind.OVERWRITE, *[Kind.MERGE] * 3),
}
#: The table that only Spark commits to, when it takes part.
SPARK_TABLE = "sparked"
_SPARK_CYCLE = (Kind.APPEND, Kind.MERGE, Kind.DELETE, Kind.APPEND, Kind.OVERWRITE)

Row = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Work:
    """One request."""

    table: str
    writer: int
    number: int

    @classmethod
    def of(cls, request_id: str) -> Work:
        """Read what a request is from its id."""
        table, writer, number = request_id.split("-")
        return cls(table=table, writer=int(writer), number=int(number))

    @property
    def request_id(self) -> str:
        return f"{self.table}-{self.writer:02}-{self.number:06}"

    @property
    def kind(self) -> Kind:
        cycle = CYCLES.get(self.table, _SPARK_CYCLE)
        return cycle[self.number % len(cycle)]

    @property
    def rows(self) -> list[Row]:
        """The rows it brings: key, writer, number."""
        if self.kind is Kind.MERGE:
            shared = [(self.number * _ROWS + n) % _SHARED_KEYS for n in range(_ROWS)]
            return [(-1 - key, self.writer, self.number) for key in shared]
        first = (self.writer * 1_000_000 + self.number) * _ROWS
        return [(first + n, self.writer, self.number) for n in range(_ROWS)]

    @property
    def oldest_kept(self) -> int:
        return self.number - _KEPT

    def submit(self, client: Client) -> Any:
        """Submit it, which may be done again."""
        options: dict[str, Any] = {
            "request_id": self.request_id,
            "lane": "live" if self.writer % _BULK_EVERY else "bulk",
            "engine": self._engine,
        }
        match self.kind:
            case Kind.MERGE:
                return client.merge(self.table, self._frame(), keys=["key"], **options)
            case Kind.DELETE:
                where = f"writer = {self.writer} AND number < {self.oldest_kept}"
                return client.delete(self.table, where=where, **options)
            case Kind.REPLACE:
                where = f"writer = {self.writer}"
                return client.overwrite(self.table, self._frame(), where=where, **options)
            case Kind.OVERWRITE:
                return client.overwrite(self.table, self._frame(), **options)
            case Kind.BAD:
                extra = self._frame().append_column("extra", pa.array(range(_ROWS)))
                return client.append(self.table, extra, **options)
        return client.append(self.table, self._frame(), **options)

    @property
    def _engine(self) -> EngineName | None:
        return "spark" if self.table == SPARK_TABLE else None

    def _frame(self) -> pa.Table:
        names = ["key", "writer", "number"]
        return pa.table([list(column) for column in zip(*self.rows, strict=True)], names=names)


def works(writer: int, *, spark: bool) -> Iterator[Work]:
    """Yield what one writer does: its tables in turn, that of Spark rarely."""
    tables = list(CYCLES)
    numbers = dict.fromkeys([*tables, SPARK_TABLE], 0)
    for n in range(1_000_000):
        table = SPARK_TABLE if spark and n % 40 == 39 else tables[n % len(tables)]
        yield Work(table=table, writer=writer, number=numbers[table])
        numbers[table] += 1


def rows_after(done: Iterable[Work]) -> list[Row]:
    """Do the work one after another on a dictionary; sorted rows."""
    held: dict[int, tuple[int, int]] = {}
    for work in done:
        match work.kind:
            case Kind.DELETE:
                old = work.oldest_kept
                held = {k: v for k, v in held.items() if v[0] != work.writer or v[1] >= old}
                continue
            case Kind.REPLACE:
                held = {k: v for k, v in held.items() if v[0] != work.writer}
            case Kind.OVERWRITE:
                held = {}
        held.update({key: (writer, number) for key, writer, number in work.rows})
    return sorted((key, *by) for key, by in held.items())

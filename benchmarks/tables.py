"""Frames to write, and whether a table holds each of their rows once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from deltaq.tasks.location import Location
from deltaq.worker.engines.urls import open_table

#: Rows of one append or merge.
ROWS = 1000
#: Keys that one writer may use.
_KEYS_OF_A_WRITER = 100_000_000


def frame(writer: int, number: int, rows: int = ROWS) -> pa.Table:
    """Make rows with keys that no other writer and number have: 4 columns, 32 bytes a row."""
    key = writer * _KEYS_OF_A_WRITER + number * rows + np.arange(rows)
    return pa.table(
        {
            "key": key,
            "writer": np.full(rows, writer),
            "number": np.full(rows, number),
            "price": key / 7,
        }
    )


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Rows that a table should hold and does not, or holds more than once."""

    failed: int
    lost: int
    doubled: int

    @property
    def clean(self) -> bool:
        """Everything is there once."""
        return not (self.failed or self.lost or self.doubled)

    def __str__(self) -> str:
        return f"{self.failed} failed, {self.lost} lost, {self.doubled} doubled"


def audit(table: Location, expected: Iterable[pa.Table], *, failed: int = 0) -> Audit:
    """Compare the keys in a table with those of the frames that were written to it.

    Keys that were not expected count as doubled.
    """
    wanted = np.unique(np.concatenate([f["key"].to_numpy() for f in expected]))
    found = np.sort(read_direct(table, ["key"])["key"].to_numpy())
    there = np.intersect1d(wanted, found)
    return Audit(failed=failed, lost=len(wanted) - len(there), doubled=len(found) - len(there))


def total(audits: Iterable[Audit]) -> Audit:
    """Add audits up."""
    found = list(audits)
    return Audit(
        failed=sum(a.failed for a in found),
        lost=sum(a.lost for a in found),
        doubled=sum(a.doubled for a in found),
    )


def read_direct(table: Location, columns: list[str] | None = None) -> pa.Table:
    """Read a table with delta-rs, without a queue."""
    return open_table(table).to_pyarrow_table(columns=columns)


def version_of(table: Location) -> int:
    """Tell the newest version of a table."""
    return open_table(table).version()

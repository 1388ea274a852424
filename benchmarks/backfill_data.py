"""Years of minute bars as files, and what a table must hold that has all of them."""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from deltalake import DeltaTable

#: Folders name the month; the other eight columns are in the files.
SCHEMA = pa.schema(
    [
        ("grp", pa.string()),
        ("symbol", pa.string()),
        ("ts", pa.timestamp("us")),
        ("open", pa.float64()),
        ("high", pa.float64()),
        ("low", pa.float64()),
        ("close", pa.float64()),
        ("volume", pa.int64()),
    ]
)
PARTITION_BY = ["grp", "month"]
_YEAR, _MONTHS = 2023, 12
_GROUPS, _SYMBOLS = 10, 100
#: Rows of a batch, and of a Parquet row group.
_BATCH = 250_000


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Files of bars, and their sums.

    Attributes:
        csv: Folder of CSV files, one for each month.
        parquet: Folder of Parquet files.
        rows: Rows of either.
        volume: Sum of their volumes.
    """

    csv: Path
    parquet: Path
    rows: int
    volume: int

    def are_in(self, table: Path) -> bool:
        """Tell whether a table has each row once, as far as counts and sums tell."""
        found = DeltaTable(str(table)).to_pyarrow_dataset()
        rows = volume = 0
        for batch in found.to_batches(columns=["volume"]):
            rows += batch.num_rows
            volume += int(np.sum(batch.column(0).to_numpy(zero_copy_only=False)))
        return (rows, volume) == (self.rows, self.volume)


def write_bars(folder: Path, rows: int) -> Bars:
    """Write bars of a year as CSV and as Parquet, in the order of time."""
    csv, parquet = folder / "csv", folder / "parquet"
    volume = written = 0
    for month in range(1, _MONTHS + 1):
        count = rows // _MONTHS + (month <= rows % _MONTHS)
        name = f"month={_YEAR}-{month:02}"
        for kind in (csv, parquet):
            (kind / name).mkdir(parents=True)
        with (
            pa.csv.CSVWriter(csv / name / "bars.csv", SCHEMA) as lines,
            pq.ParquetWriter(parquet / name / "bars.parquet", SCHEMA) as groups,
        ):
            for batch in _batches(month, count):
                lines.write(batch)
                groups.write(batch)
                volume += int(np.sum(batch["volume"].to_numpy()))
                written += batch.num_rows
    return Bars(csv=csv, parquet=parquet, rows=written, volume=volume)


def _batches(month: int, rows: int) -> Iterator[pa.RecordBatch]:
    random = np.random.default_rng(month)
    begin = np.datetime64(f"{_YEAR}-{month:02}-01", "us")
    microseconds = calendar.monthrange(_YEAR, month)[1] * 86_400_000_000
    names = np.array([f"S{number:03}" for number in range(_SYMBOLS)])
    groups = np.array([f"G{number % _GROUPS}" for number in range(_SYMBOLS)])
    for start in range(0, rows, _BATCH):
        count = min(_BATCH, rows - start)
        symbol = np.arange(start, start + count) % _SYMBOLS
        passed = (np.arange(start, start + count) * (microseconds // rows)).astype(
            "timedelta64[us]"
        )
        opened = np.round(50 + symbol + random.normal(0, 1, count), 2)
        moved = np.round(random.normal(0, 0.1, (3, count)), 2)
        columns = [
            groups[symbol],
            names[symbol],
            begin + passed,
            opened,
            opened + np.abs(moved[0]),
            opened - np.abs(moved[1]),
            opened + moved[2],
            random.integers(100, 100_000, count),
        ]
        yield pa.RecordBatch.from_arrays([pa.array(c) for c in columns], schema=SCHEMA)

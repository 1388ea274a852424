"""Rows in files and on the terminal: CSV, Parquet, JSON lines, and a table to look at."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from deltaq.tasks.errors import InvalidFrame, InvalidRequest

#: Rows of a table to look at; more do not help on a terminal.
_SHOWN_ROWS = 50


class Format(StrEnum):
    """How rows are written."""

    CSV = "csv"
    PARQUET = "parquet"
    JSONL = "jsonl"
    TABLE = "table"


_BY_SUFFIX = {
    ".csv": Format.CSV,
    ".parquet": Format.PARQUET,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
}


def format_of(path: Path, given: Format | None) -> Format:
    """Tell the format of a file by its name, unless it is given.

    Raises:
        InvalidRequest: The name does not tell.
    """
    found = given or _BY_SUFFIX.get(path.suffix.lower())
    if found is None:
        raise InvalidRequest(f"{path}: no known ending ({', '.join(_BY_SUFFIX)}): give --format")
    return found


def read_rows(path: Path, kind: Format) -> pa.Table:
    """Read the rows of a file; ``-`` is standard input.

    Raises:
        InvalidFrame: The file cannot be read or is not of that format.
    """
    source: Any = pa.py_buffer(sys.stdin.buffer.read()) if str(path) == "-" else str(path)
    try:
        return _reader(kind)(source)
    except (pa.ArrowException, OSError) as exc:
        raise InvalidFrame(f"{path}: cannot be read as {kind}: {exc}") from exc


def _reader(kind: Format) -> Callable[[Any], pa.Table]:
    if kind is Format.PARQUET:
        from pyarrow import parquet

        return lambda source: parquet.read_table(_opened(source))
    if kind is Format.CSV:
        from pyarrow import csv

        return lambda source: csv.read_csv(_opened(source))
    if kind is Format.JSONL:
        from pyarrow import json as json_lines

        return lambda source: json_lines.read_json(_opened(source))
    raise InvalidRequest(f"--format {kind}: rows cannot be read from it")


def _opened(source: Any) -> Any:
    return pa.BufferReader(source) if isinstance(source, pa.Buffer) else source


def write_rows(rows: pa.Table, kind: Format, file: BinaryIO) -> None:
    """Write rows in a format; a table to look at shows the first of them only."""
    if kind is Format.PARQUET:
        from pyarrow import parquet

        parquet.write_table(rows, file)
    elif kind is Format.CSV:
        from pyarrow import csv

        csv.write_csv(rows, file)
    elif kind is Format.JSONL:
        for batch in rows.to_batches():
            for row in batch.to_pylist():
                file.write(json.dumps(row, default=str, ensure_ascii=False).encode() + b"\n")
    else:
        _show(rows)


def _show(rows: pa.Table) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*rows.schema.names)
    for row in rows.slice(0, _SHOWN_ROWS).to_pylist():
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    Console().print(table)
    if rows.num_rows > _SHOWN_ROWS:
        Console(stderr=True).print(f"the first {_SHOWN_ROWS} of {rows.num_rows:,} rows")

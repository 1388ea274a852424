"""Rows in files and on the terminal: CSV, Parquet, JSON lines, and a table to look at."""

from __future__ import annotations

import base64
import contextlib
import json
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet
from pyarrow import json as json_lines

from deltaq.tasks.errors import InvalidFrame, InvalidRequest

#: Rows of a table to look at; more do not help on a terminal.
_SHOWN_ROWS = 50
#: Characters of a value in it.
_SHOWN_CHARACTERS = 60
_STDIN = Path("-")
_DATE = r"^\d{4}-\d{2}-\d{2}$"


class Format(StrEnum):
    """How rows are written."""

    CSV = "csv"
    PARQUET = "parquet"
    JSONL = "jsonl"
    TABLE = "table"


#: What the ending of a file's name says.
BY_SUFFIX = {
    ".csv": Format.CSV,
    ".parquet": Format.PARQUET,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
}
#: Arrow undoes these by itself when it reads text from a file with such an ending.
COMPRESSED = (".gz", ".bz2", ".zst")


def format_of(path: Path, given: Format | None) -> Format:
    """Tell the format of a file by its name, unless it is given.

    Raises:
        InvalidRequest: The name does not tell.
    """
    name = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    found = given or BY_SUFFIX.get(name.suffix.lower())
    if found is None:
        why = "standard input has no name" if path == _STDIN else f"{path} has none of the endings"
        raise InvalidRequest(
            f"{why}{'' if path == _STDIN else ' ' + ', '.join(BY_SUFFIX)}: say what it is with "
            "--format csv, parquet or jsonl"
        )
    return found


@contextlib.contextmanager
def open_rows(path: Path, given: Format | None) -> Iterator[pa.Table | pa.RecordBatchReader]:
    """Open the rows of a file; ``-`` is standard input. Parquet is read batch by batch.

    Raises:
        InvalidFrame: The file cannot be read or is not of that format.
        InvalidRequest: The name does not tell the format.
    """
    kind = format_of(path, given)
    if kind is Format.TABLE:
        raise InvalidRequest("--format table is for looking at rows: they cannot be read from it")
    with _read_errors(path, kind):
        source = _source(path)
        if kind is Format.CSV:
            rows = csv.read_csv(source)
        elif kind is Format.JSONL:
            rows = read_json_lines(source)
        else:
            file = parquet.ParquetFile(source)
    if kind is not Format.PARQUET:
        yield rows
        return
    with file:
        yield pa.RecordBatchReader.from_batches(file.schema_arrow, _batches(file, path))


def _source(path: Path) -> Any:
    if path == _STDIN:
        return pa.BufferReader(sys.stdin.buffer.read())
    # What a shell writes <(...) for is no file: it can be read only once, from its beginning.
    return str(path) if path.is_file() else pa.BufferReader(path.read_bytes())


def read_json_lines(source: Any) -> pa.Table:
    """Read JSON lines; text that is a date becomes one, as in CSV, where Arrow sees a time."""
    rows = json_lines.read_json(source)
    times = [f.name for f in rows.schema if pa.types.is_timestamp(f.type)]
    if not times:
        return rows
    if isinstance(source, pa.BufferReader):
        source.seek(0)
    as_text = json_lines.ParseOptions(explicit_schema=pa.schema([(t, pa.string()) for t in times]))
    texts = json_lines.read_json(source, parse_options=as_text)
    for name in times:
        column = texts.column(name)
        if pc.all(pc.match_substring_regex(column, _DATE)).as_py():
            place = rows.schema.names.index(name)
            rows = rows.set_column(place, name, column.cast(pa.date32()))
    return rows


def _batches(file: parquet.ParquetFile, path: Path) -> Iterator[pa.RecordBatch]:
    with _read_errors(path, Format.PARQUET):
        yield from file.iter_batches()


@contextlib.contextmanager
def _read_errors(path: Path, kind: Format) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as exc:
        what = "standard input" if path == _STDIN else path
        why = (isinstance(exc, OSError) and exc.strerror) or exc
        raise InvalidFrame(f"{what} cannot be read as {kind}: {why}") from exc


def write_rows(rows: pa.Table, kind: Format, file: BinaryIO) -> None:
    """Write rows in a format; a table to look at shows the first of them only."""
    if kind is Format.PARQUET:
        parquet.write_table(rows, file)
    elif kind is Format.CSV:
        csv.write_csv(_flat(rows), file)
    elif kind is Format.JSONL:
        for batch in rows.to_batches():
            for row in batch.to_pylist():
                file.write(as_json(row).encode() + b"\n")
    else:
        _show(rows)


def as_json(value: Any) -> str:
    """Write a value as JSON; what JSON has no form for as text: times ISO 8601, bytes Base64."""
    return json.dumps(value, default=_as_text, ensure_ascii=False)


def _as_text(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value.isoformat() if hasattr(value, "isoformat") else value)


def _flat(rows: pa.Table) -> pa.Table:
    """Write as text what CSV has no form for: lists and structs as JSON, bytes as Base64."""
    for place, field in enumerate(rows.schema):
        if pa.types.is_nested(field.type) or _is_binary(field.type):
            told = [_text(value) for value in rows.column(place).to_pylist()]
            rows = rows.set_column(place, field.name, pa.array(told, pa.string()))
    return rows


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _text(value: Any) -> str | None:
    match value:
        case None:
            return None
        case list() | dict():
            return as_json(value)
        case bytes():
            return _as_text(value)
    return str(value)


def _show(rows: pa.Table) -> None:
    shown = rows.slice(0, _SHOWN_ROWS).to_pylist()
    numeric = [_is_number(field.type) for field in rows.schema]
    show_table(rows.schema.names, ([_cell(v) for v in row.values()] for row in shown), numeric)
    if rows.num_rows > _SHOWN_ROWS:
        sys.stderr.write(f"the first {_SHOWN_ROWS} of {rows.num_rows:,} rows; --output has all\n")


def show_table(
    columns: list[str],
    rows: Iterator[list[str]],
    right: list[bool] | None = None,
    *,
    whole: int = 0,
) -> None:
    """Print a table on standard output, as wide as the terminal.

    Args:
        columns: Their names.
        rows: The cells.
        right: For each column whether it is aligned to the right.
        whole: So many columns, from the first, go over one line.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for place, is_right in enumerate(right or [False] * len(columns)):
        table.add_column(
            Text(columns[place]),
            justify="right" if is_right else "left",
            overflow="fold",
            no_wrap=place < whole,
        )
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def _cell(value: Any) -> str:
    text = _text(value) or ""
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )

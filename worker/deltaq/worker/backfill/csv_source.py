"""Reads CSV, whole files or byte ranges of them, straight into the table's types."""

from __future__ import annotations

import csv as stdlib_csv
import io
import re
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.types as pt

from deltaq.tasks.errors import InvalidFrame, SchemaMismatch
from deltaq.tasks.location import Location, text_stream
from deltaq.tasks.manifest import Csv, Slice
from deltaq.worker.backfill.lines import Lines, bad_line, is_compressed, line_start, whole_lines
from deltaq.worker.backfill.rows import completed, no_such_columns

#: Bytes that Arrow parses at a time.
_BLOCK_BYTES = 4 << 20
#: Arrow's word for a value that does not fit: number of the column, type, what was wrong.
_CONVERSION = re.compile(
    r"In CSV column #(\d+): (?:Row #\d+: )?CSV conversion error to (.*?): (.*)", re.DOTALL
)


def read(path: Location, piece: Slice, schema: pa.Schema, csv: Csv) -> Iterator[pa.RecordBatch]:
    """Read rows in order, with all columns of a schema.

    Raises:
        InvalidFrame: A column has a type that CSV cannot hold.
        SchemaMismatch: A value does not fit, or a line has too many or too few; it is named.
    """
    columns = _header(path, csv)
    if unknown := [column for column in columns if column not in schema.names]:
        raise no_such_columns(unknown)
    if nested := [f.name for f in schema if f.name in columns and pt.is_nested(f.type)]:
        raise InvalidFrame(f"column {nested[0]!r} has a type that CSV does not have")
    reader = _Reader(columns, schema, csv)
    if piece.byte_range is None and (csv.multiline or is_compressed(path)):
        yield from reader.stream(path)
        return
    start, stop = piece.byte_range or (0, piece.file_bytes)
    lines = whole_lines(path, start, stop, body=line_start(path, 1))
    if lines.start < lines.stop:
        yield from reader.lines(lines)


def _header(path: Location, csv: Csv) -> list[str]:
    with text_stream(path) as file:
        text = io.TextIOWrapper(file, "utf-8-sig", newline="")
        return next(stdlib_csv.reader(text, delimiter=csv.delimiter), [])


class _Reader:
    """Parses CSV of known columns."""

    def __init__(self, columns: list[str], schema: pa.Schema, csv: Csv) -> None:
        self._columns = columns
        self._schema = schema
        self._csv = csv

    def stream(self, path: Location) -> Iterator[pa.RecordBatch]:
        """Read a whole file, in which values may go over lines."""

        def opened() -> Any:
            return text_stream(path)

        try:
            yield from self._batches(opened, quotes=True, skip=1)
        except pa.ArrowInvalid as exc:
            raise SchemaMismatch(self._told(exc)) from exc

    def lines(self, lines: Lines) -> Iterator[pa.RecordBatch]:
        """Read whole lines."""
        quotes = lines.count(b'"')
        if quotes % 2:
            raise SchemaMismatch(
                "a quoted value goes over the end of a line, or a quote is missing; say "
                "csv=Csv(multiline=True) for such files, which are then not cut"
            )
        try:
            yield from self._batches(lines.open, quotes=quotes > 0)
        except pa.ArrowInvalid as exc:
            number = bad_line(lines, self._parse)
            raise SchemaMismatch(
                f"line {number}: {self._told(exc)}", details={"line": number}
            ) from exc

    def _parse(self, lines: Lines) -> None:
        for _ in self._batches(lines.open, quotes=True):
            pass

    def _batches(
        self, opened: Callable[[], Any], *, quotes: bool, skip: int = 0
    ) -> Iterator[pa.RecordBatch]:
        # Text without a zone means UTC where all of it is without one; Arrow has to be told.
        for zoned in (True, False):
            with opened() as file:
                try:
                    reader = self._reader(file, zoned=zoned, quotes=quotes, skip=skip)
                except pa.ArrowInvalid as exc:
                    if zoned and "expected a zone offset" in str(exc):
                        continue
                    if "Empty CSV" in str(exc):
                        return
                    raise
                for batch in reader:
                    yield completed(self._zoned(batch), self._schema)
                return

    def _reader(self, file: Any, *, zoned: bool, quotes: bool, skip: int) -> pc.CSVStreamingReader:
        types = {}
        for field in self._schema:
            kind = field.type
            types[field.name] = pa.timestamp("us") if _is_zoned(kind) and not zoned else kind
        return pc.open_csv(
            file,
            pc.ReadOptions(column_names=self._columns, skip_rows=skip, block_size=_BLOCK_BYTES),
            pc.ParseOptions(delimiter=self._csv.delimiter, newlines_in_values=quotes),
            pc.ConvertOptions(
                column_types={name: types[name] for name in self._columns},
                null_values=list(self._csv.null_values),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )

    def _zoned(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        schema = pa.schema([self._schema.field(name) for name in batch.schema.names])
        if batch.schema == schema:
            return batch
        columns = [
            column.cast(pa.timestamp("us", "UTC")) if column.type != field.type else column
            for column, field in zip(batch.columns, schema, strict=True)
        ]
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def _told(self, error: pa.ArrowInvalid) -> str:
        """Name the column, and leave out which row of a block it was."""
        text = str(error).partition("\n")[0].removeprefix("CSV parse error: ")
        found = _CONVERSION.fullmatch(text)
        if found is None:
            return re.sub(r"Row #\d+: ", "", text)
        return f"column {self._columns[int(found[1])]!r}: {found[3]}, for {found[2]}"


def _is_zoned(kind: pa.DataType) -> bool:
    return bool(pt.is_timestamp(kind) and kind.tz)

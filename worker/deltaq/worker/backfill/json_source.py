"""Reads JSON lines, whole files or byte ranges of them, into the table's types."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.json as pj
import pyarrow.types as pt

from deltaq.tasks.errors import SchemaMismatch
from deltaq.tasks.location import Location, text_stream
from deltaq.tasks.manifest import Slice
from deltaq.worker.backfill.lines import Lines, bad_line, is_compressed, whole_lines
from deltaq.worker.engines.fit import fit_batch

_BLOCK_BYTES = 4 << 20


def read(path: Location, piece: Slice, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Read rows in order, with all columns of a schema; a line that lacks one has null there.

    Raises:
        SchemaMismatch: A value does not fit, or has a name that no column has; the line is named.
    """
    if piece.byte_range is None and is_compressed(path):
        with text_stream(path) as file:
            try:
                yield from _batches(file, schema)
            except pa.ArrowInvalid as exc:
                raise SchemaMismatch(_told(exc)) from exc
        return
    lines = whole_lines(path, *(piece.byte_range or (0, piece.file_bytes)))

    def parse(some: Lines) -> None:
        for _ in _lines(some, schema):
            pass

    try:
        yield from _lines(lines, schema)
    except (pa.ArrowInvalid, SchemaMismatch) as exc:
        number = bad_line(lines, parse)
        said = exc.message if isinstance(exc, SchemaMismatch) else _told(exc)
        raise SchemaMismatch(f"line {number}: {said}", details={"line": number}) from exc


def _lines(lines: Lines, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    if lines.start < lines.stop:
        with lines.open() as file:
            yield from _batches(file, schema)


def _batches(file: object, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    read_schema = pa.schema([pa.field(f.name, _json_type(f.type)) for f in schema])
    options = pj.ParseOptions(explicit_schema=read_schema, unexpected_field_behavior="error")
    try:
        reader = pj.open_json(file, pj.ReadOptions(block_size=_BLOCK_BYTES), options)
    except pa.ArrowInvalid as exc:
        if "Empty JSON" in str(exc):
            return
        raise
    for batch in reader:
        dated = batch.cast(pa.schema([pa.field(f.name, _dated(f, schema)) for f in batch.schema]))
        yield fit_batch(dated, schema)


def _json_type(kind: pa.DataType) -> pa.DataType:
    """Say as what Arrow reads a type: dates as text, for it wants numbers of days."""
    return pa.string() if pt.is_date(kind) else kind


def _dated(field: pa.Field, schema: pa.Schema) -> pa.DataType:
    kind = schema.field(field.name).type
    return kind if pt.is_date(kind) else field.type


def _told(error: Exception) -> str:
    return str(error).partition("\n")[0].removeprefix("JSON parse error: ")

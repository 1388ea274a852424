"""What columns the files of a backfill have, and the one schema that holds them all."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from deltaq.client.backfill_samples import Sample, read_samples
from deltaq.client.backfill_sources import SourceFile, errors_of
from deltaq.client.backfill_types import text_type, wider_type
from deltaq.client.frames import check_names, column_type
from deltaq.client.schemas import TableSchema, columns_of
from deltaq.client.tabular import Format
from deltaq.tasks.errors import DeltaqError, SchemaMismatch
from deltaq.tasks.location import Location, source_of
from deltaq.tasks.manifest import Csv
from deltaq.tasks.request import Column
from deltaq.tasks.suggest import did_you_mean

#: Footers are small and far away: so many are read at once.
_READERS = 8
_CSV = Csv()


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What is known of a file before its rows are read.

    Attributes:
        file: The file.
        schema: Its columns in types of Delta, with those that its folders name.
        values: Those that its folders name, and the file itself lacks.
        group_bytes: Of Parquet, the compressed size of each row group.
        group_memory: And what its rows take in memory, at least.
        multiline: Of CSV: values between quotes go over lines.
    """

    file: SourceFile
    schema: pa.Schema
    values: dict[str, str | None] = field(default_factory=dict)
    group_bytes: tuple[int, ...] = ()
    group_memory: tuple[int, ...] = ()
    multiline: bool = False


def read_shapes(files: Sequence[SourceFile], how: Csv = _CSV) -> list[Shape]:
    """Read the footer of each Parquet file, the header of each CSV file, samples of the text.

    Raises:
        InvalidFrame: A file is damaged, or has columns that Delta cannot hold; it is named.
        StorageUnavailable: One cannot be read now.
    """
    text = [f for f in files if f.format is not Format.PARQUET]
    samples = read_samples(text, how) if text else {}
    read = functools.partial(_shape, samples=samples, folders=_folder_types(files))
    with ThreadPoolExecutor(_READERS, "deltaq-footers") as threads:
        return list(threads.map(read, files))


def _shape(
    file: SourceFile, samples: Mapping[Location, Sample], folders: Mapping[str, pa.DataType]
) -> Shape:
    group_bytes: tuple[int, ...] = ()
    group_memory: tuple[int, ...] = ()
    multiline = False
    if file.format is Format.PARQUET:
        schema, group_bytes, group_memory = _footer(file.path)
    else:
        schema, multiline = samples[file.path].schema, samples[file.path].multiline
    with errors_of(file.path, file.format):
        check_names(schema.names)
        fields = [pa.field(f.name, column_type(f), f.nullable) for f in schema]
    # A column that the file has itself is taken from there.
    values = {name: text for name, text in file.values.items() if name not in schema.names}
    fields += [pa.field(name, folders[name]) for name in values]
    return Shape(
        file=file,
        schema=pa.schema(fields),
        values=values,
        group_bytes=group_bytes,
        group_memory=group_memory,
        multiline=multiline,
    )


def _footer(path: Location) -> tuple[pa.Schema, tuple[int, ...], tuple[int, ...]]:
    with errors_of(path, "Parquet"), pq.ParquetFile(source_of(path)) as file:
        groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
        compressed = (
            sum(group.column(c).total_compressed_size for c in range(group.num_columns))
            for group in groups
        )
        # Values that are repeated, or null, take no room in the file, but they do in memory.
        row = sum(map(_width, file.schema_arrow.types))
        memory = (max(group.total_byte_size, group.num_rows * row) for group in groups)
        return file.schema_arrow, tuple(compressed), tuple(memory)


def _width(kind: pa.DataType) -> int:
    """Tell the bytes of a value; 0 if not all have the same."""
    return int(kind.bit_width) // 8 if pt.is_primitive(kind) or pt.is_decimal(kind) else 0


def _folder_types(files: Iterable[SourceFile]) -> dict[str, pa.DataType]:
    """Guess the types of the columns that folders name, from all their values."""
    texts: dict[str, set[str]] = {}
    for file in files:
        for column, text in file.values.items():
            texts.setdefault(column, set()).update(() if text is None else (text,))
    return {column: _type_of_all(values) for column, values in texts.items()}


def _type_of_all(values: set[str]) -> pa.DataType:
    readers: tuple[tuple[Callable[[str], object], pa.DataType], ...] = (
        (int, pa.int64()),
        (datetime.date.fromisoformat, pa.date32()),
    )
    for read, kind in readers:
        try:
            if values and all(
                str(read(value)).lstrip("0") == value.lstrip("0") for value in values
            ):
                return kind
        except ValueError:
            continue
    return pa.string()


def common_schema(
    shapes: Sequence[Shape],
    *,
    schema: TableSchema | None = None,
    table: Sequence[Mapping[str, object]] | None = None,
    widen: bool = False,
    name: str = "",
) -> tuple[Column, ...]:
    """Find the columns that hold the rows of all files.

    Args:
        shapes: The files.
        schema: What the caller says that the columns are.
        table: Columns of the table, when there is one: guesses give way to its types.
        widen: Files may lack columns and have narrower types; the table may lack columns.
        name: Name of the table, for messages.

    Raises:
        SchemaMismatch: A file has another column or type; both are named.
    """
    if schema is not None:
        given = columns_of(schema)
        check_columns(shapes, {c.name for c in given})
        return given
    fields = _merged(shapes, widen=widen)
    known = {str(c["name"]): str(c["type"]) for c in table or ()}
    guesses = {f.name for s in shapes if s.file.format is not Format.PARQUET for f in s.schema}
    guesses |= {name for s in shapes for name in s.values}
    if table is not None and not widen:
        _check_table(fields, known, name)
    columns: list[Column] = []
    for column, found in fields.items():
        if column in known and (column in guesses or pt.is_null(found.type)):
            columns.append(Column(name=column, type=known[column]))
            continue
        typed = found.with_type(pa.string()) if pt.is_null(found.type) else found
        columns += columns_of(pa.schema([typed]))
    return tuple(columns)


def check_columns(shapes: Iterable[Shape], names: set[str]) -> None:
    """Check that files have no other columns than these.

    Raises:
        SchemaMismatch: One has; both are named.
    """
    for shape in shapes:
        if unknown := [n for n in shape.schema.names if n not in names]:
            told = ", ".join(f"{n!r}{did_you_mean(n, names)}" for n in unknown)
            raise _mismatch(shape, f"the schema has no column {told}", unknown[0])


def _check_table(fields: Iterable[str], known: Mapping[str, str], table: str) -> None:
    if unknown := [name for name in fields if name not in known]:
        told = ", ".join(f"{name!r}{did_you_mean(name, known)}" for name in unknown)
        raise SchemaMismatch(
            f"table {table} has no column {told}: schema_mode='merge' adds what it lacks",
            table=table,
            details={"missing": unknown, "columns": list(known)},
        )


def _merged(shapes: Sequence[Shape], *, widen: bool) -> dict[str, pa.Field]:
    """Put the columns of all files together, in the order in which they come."""
    merged: dict[str, pa.Field] = {}
    by: dict[str, Shape] = {}
    lower: dict[str, str] = {}
    for shape in shapes:
        for column in shape.schema:
            name = column.name
            if (other := lower.setdefault(name.lower(), name)) != name:
                raise _mismatch(
                    shape, f"column {name!r} is {other!r} in {by[other].file.path}", name
                )
            if name not in merged:
                merged[name], by[name] = column, shape
                continue
            merged[name] = _joined(merged[name], column, shape, by, widen=widen)
    return {name: _nullable_where_missing(f, shapes, by, widen) for name, f in merged.items()}


def _joined(
    one: pa.Field, other: pa.Field, shape: Shape, by: Mapping[str, Shape], *, widen: bool
) -> pa.Field:
    text = shape.file.format is not Format.PARQUET
    kind = text_type(one.type, other.type) if text else wider_type(one.type, other.type)
    if kind is None or (not (widen or text) and one.type != other.type and not _a_null(one, other)):
        hint = "; schema_mode='merge' takes the wider type" if kind is not None else ""
        raise _mismatch(
            shape,
            f"column {other.name!r} is {other.type}, and {one.type} in "
            f"{by[one.name].file.path}{hint}",
            other.name,
        )
    return pa.field(one.name, kind, one.nullable or other.nullable)


def _a_null(one: pa.Field, other: pa.Field) -> bool:
    return bool(pt.is_null(one.type) or pt.is_null(other.type))


def _nullable_where_missing(
    column: pa.Field, shapes: Iterable[Shape], by: Mapping[str, Shape], widen: bool
) -> pa.Field:
    lacking = next((s for s in shapes if s.schema.get_field_index(column.name) < 0), None)
    if lacking is None:
        return column
    # What JSON lines leave out is null.
    if not widen and lacking.file.format is not Format.JSONL:
        raise _mismatch(
            lacking,
            f"column {column.name!r} is missing, which {by[column.name].file.path} has; "
            "schema_mode='merge' takes it for null",
            column.name,
        )
    return column.with_nullable(True)


def _mismatch(shape: Shape, problem: str, column: str) -> DeltaqError:
    path = shape.file.path
    return SchemaMismatch(f"{path}: {problem}", details={"path": str(path), "column": column})

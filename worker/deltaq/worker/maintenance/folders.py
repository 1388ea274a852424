"""Whether a folder of Parquet files can become a Delta table as it is; both engines ask here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from deltaq.tasks.errors import InvalidRequest, SchemaMismatch, StorageUnavailable, TableNotFound
from deltaq.tasks.location import Location
from deltaq.tasks.request import Convert
from deltaq.tasks.s3_path import S3Path
from deltaq.worker.engines.sql_types import arrow_type


@dataclass(frozen=True, kw_only=True)
class Folder:
    """What a folder of Parquet files holds.

    Attributes:
        partitions: The partition columns, in the order of the folders, with their types.
        needs_spark: delta-rs would not read what it makes of it; why.
    """

    partitions: pa.Schema
    needs_spark: str | None


def check_folder(path: Location, request: Convert) -> Folder:
    """Look through a folder that is to become a Delta table.

    Raises:
        TableNotFound: There is no such folder.
        InvalidRequest: It has no Parquet files, others besides, or other partitions than named.
        SchemaMismatch: Its files do not fit together, or no table could hold a column.
        StorageUnavailable: It cannot be read now.
    """
    if isinstance(path, S3Path):
        raise InvalidRequest(
            f"folder {request.table} is in S3, where folders are not converted: append its files, "
            "or load them by a backfill",
            table=request.table,
        )
    if not path.is_dir():
        raise TableNotFound(
            f"there is no folder {request.table} in the lake to convert", table=request.table
        )
    files = sorted(_data_files(path))
    passed_over = sum(1 for file in path.rglob("*.parquet") if file.is_file()) - len(files)
    if not files:
        raise InvalidRequest(
            f"folder {request.table} has no Parquet files: a file's name must end with .parquet",
            table=request.table,
        )
    names = [column.name for column in request.partition_by]
    known: pa.Schema | None = None
    needs_spark = f"{passed_over} files have names that readers pass over" if passed_over else None
    for file in files:
        inside = file.relative_to(path)
        _check_partitions(inside, names, request.table)
        schema, has_int96 = _footer(file, inside, request.table)
        known = schema if known is None else _together(known, schema, inside, request.table)
        if has_int96:
            needs_spark = f"{inside} has timestamps of 96 bits"
        elif "%" in str(inside):
            needs_spark = f"the name {inside} has a '%'"
    fields = [
        pa.field(column.name, arrow_type(column.type, column=column.name))
        for column in request.partition_by
    ]
    return Folder(partitions=pa.schema(fields), needs_spark=needs_spark)


def _data_files(path: Path) -> Iterator[Path]:
    for file in path.rglob("*.parquet"):
        hidden = (p.startswith(("_", ".")) and "=" not in p for p in file.relative_to(path).parts)
        if file.is_file() and not any(hidden):
            yield file


def _check_partitions(inside: Path, names: list[str], table: str) -> None:
    found = [part.partition("=")[0] for part in inside.parts[:-1] if "=" in part]
    if len(found) < len(inside.parts) - 1:
        raise InvalidRequest(
            f"folder {table}: {inside} is in a folder that is no partition; those are named "
            "'column=value'",
            table=table,
        )
    if found != names:
        raise InvalidRequest(
            f"folder {table}: {inside} is partitioned by {', '.join(found) or 'nothing'}, not by "
            f"{', '.join(names) or 'nothing'}; name the columns in that order in partition_by",
            table=table,
            details={"partition_by": found},
        )


def _footer(file: Path, inside: Path, table: str) -> tuple[pa.Schema, bool]:
    try:
        metadata = pq.read_metadata(file)
    except pa.ArrowInvalid as exc:
        raise InvalidRequest(f"folder {table}: {inside} is no Parquet file: {exc}") from exc
    except OSError as exc:
        raise StorageUnavailable(f"{file}: cannot be read: {exc}") from exc
    columns = metadata.schema
    has_int96 = any(columns.column(n).physical_type == "INT96" for n in range(len(columns)))
    schema = columns.to_arrow_schema()
    if not has_int96:
        for field in schema:
            if _is_foreign(field.type):
                raise SchemaMismatch(
                    f"folder {table}: column {field.name!r} of {inside} is {field.type}, which no "
                    "Delta table holds; append the files instead of converting the folder",
                    table=table,
                    details={"column": field.name},
                )
    return schema, has_int96


def _is_foreign(kind: pa.DataType) -> bool:
    nanoseconds = pt.is_timestamp(kind) and kind.unit == "ns"
    return nanoseconds or any(
        is_one(kind)
        for is_one in (
            *(pt.is_unsigned_integer, pt.is_time, pt.is_duration, pt.is_float16, pt.is_null),
        )
    )


def _together(known: pa.Schema, schema: pa.Schema, inside: Path, table: str) -> pa.Schema:
    try:
        return pa.unify_schemas([known.remove_metadata(), schema.remove_metadata()])
    except (pa.ArrowInvalid, pa.ArrowTypeError) as exc:
        raise SchemaMismatch(
            f"folder {table}: {inside} does not fit the files before it: {exc}", table=table
        ) from exc

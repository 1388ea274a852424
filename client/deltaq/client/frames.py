"""Frames of pandas, polars and pyarrow as rows that a Delta table can hold.

Nothing here imports pandas or polars: a frame of theirs can only come from somebody who has.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from deltaq.tasks.errors import InvalidFrame

if TYPE_CHECKING:
    import pandas
    import polars

#: What a program may hand over.
Frame: TypeAlias = (
    "pandas.DataFrame | polars.DataFrame | pa.Table | pa.RecordBatch | pa.RecordBatchReader"
)

#: Rows of one batch of a table; a reader's batches stay as they are.
_BATCH_ROWS = 131_072
#: Columns of a frame with fewer rows are converted in this thread: a pool costs more.
_PARALLEL_ROWS = 100_000


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of a frame, in types of Delta. The batches can be read once.

    Attributes:
        schema: Names and types; every field nullable, without metadata.
        batches: Record batches of that schema. Taking one may raise ``InvalidFrame``.
    """

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


def to_rows(frame: Frame) -> Rows:
    """Turn a frame into rows, batch by batch and without loss.

    Timestamps become microseconds, those with a zone in UTC; unsigned integers become the
    signed type that holds them (uint64: int64 if the values fit); dictionaries and runs are
    decoded. A column of nulls without a type stays one: the table's type decides. NaN in a
    pandas frame is a null, as pandas has it.

    Raises:
        InvalidFrame: The frame has no columns, names that Delta cannot tell apart, or a type
            or a value that Delta cannot hold; the column is named.
    """
    schema, batches = _arrow(frame)
    check_names(schema.names)
    target = pa.schema([pa.field(f.name, column_type(f)) for f in schema])
    return Rows(schema=target, batches=(_fit(batch, target) for batch in batches))


def _arrow(frame: Any) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    pandas, polars = sys.modules.get("pandas"), sys.modules.get("polars")
    if pandas is not None and isinstance(frame, pandas.DataFrame):
        frame = _from_pandas(frame)
    elif polars is not None and isinstance(frame, polars.DataFrame):
        frame = _from_polars(frame, polars.Object)
    if isinstance(frame, pa.RecordBatch):
        return frame.schema, iter([frame])
    if isinstance(frame, pa.Table):
        return frame.schema, iter(frame.to_batches(max_chunksize=_BATCH_ROWS))
    if isinstance(frame, pa.RecordBatchReader):
        return frame.schema, iter(frame)
    kind = type(frame)
    name = kind.__qualname__
    if kind.__module__ != "builtins":
        name = f"{kind.__module__}.{name}"
    hint = "; call collect() on it first" if kind.__name__ == "LazyFrame" else ""
    raise InvalidFrame(
        f"{name} is no frame: give a DataFrame of "
        f"pandas or polars, or a Table, RecordBatch or RecordBatchReader of pyarrow{hint}"
    )


def _from_pandas(frame: pandas.DataFrame) -> pa.Table:
    _check_index(frame)
    for label in frame.columns:
        if not isinstance(label, str):
            raise InvalidFrame(
                f"column label {label!r} is no text: name the columns, for example with "
                "frame.columns = [...]"
            )
    check_names(list(frame.columns))
    threads = 1 if len(frame) < _PARALLEL_ROWS else None
    try:
        return pa.Table.from_pandas(frame, preserve_index=False, nthreads=threads)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        for name in frame.columns:
            _try_pandas_column(frame, name)
        raise


def _check_index(frame: pandas.DataFrame) -> None:
    index = frame.index
    unnamed = all(name is None for name in index.names)
    # Row numbers, also those that a filter left over, are not data. All else would be lost.
    if unnamed and index.nlevels == 1 and (len(index) == 0 or index.dtype.kind in "iu"):
        return
    names = ", ".join(repr(name) for name in index.names)
    raise InvalidFrame(
        f"the frame's index ({names}) would be lost: call reset_index() to make it a column, "
        "or reset_index(drop=True) to leave it out",
        details={"index": [str(name) for name in index.names]},
    )


def _try_pandas_column(frame: pandas.DataFrame, name: str) -> None:
    try:
        pa.Table.from_pandas(frame[[name]], preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as exc:
        raise InvalidFrame(
            f"column {name!r} ({frame[name].dtype}) has values of mixed or unknown types: "
            f"{exc.args[0]}; convert it, for example with astype",
            details={"column": name},
        ) from exc


def _from_polars(frame: polars.DataFrame, unfit: object) -> pa.Table:
    for name, dtype in frame.schema.items():
        # to_arrow() would give the addresses of the objects.
        if dtype == unfit:
            raise InvalidFrame(
                f"column {name!r} ({dtype}) has Python objects: convert it to a type of polars",
                details={"column": name},
            )
    try:
        return frame.to_arrow()
    except (pa.ArrowException, ValueError, TypeError) as exc:
        raise InvalidFrame(f"the frame has a type that Arrow does not know: {exc}") from exc


def check_names(names: Sequence[str]) -> None:
    """Check that columns can be those of one table.

    Raises:
        InvalidFrame: There are none, or a name is empty or clashes with another.
    """
    if not names:
        raise InvalidFrame("the frame has no columns")
    if "" in names:
        raise InvalidFrame("a column has an empty name: rename it")
    count = Counter(name.lower() for name in names)
    twice = [name for name in names if count[name.lower()] > 1]
    if twice:
        raise InvalidFrame(
            f"columns {', '.join(map(repr, twice))}: Delta tells names apart only by more than "
            "their case; rename all but one",
            details={"columns": twice},
        )


def column_type(field: pa.Field) -> pa.DataType:
    """Choose the type of Delta that holds a column.

    Raises:
        InvalidFrame: There is none; the message says what to do.
    """
    try:
        return _delta_type(field.type)
    except _Unfit as exc:
        raise InvalidFrame(
            f"column {field.name!r} ({field.type}): {exc}", details={"column": field.name}
        ) from None


class _Unfit(Exception):
    """Delta has no such type; the message says what to do."""


#: Types that become another one whatever their parameters.
_SAME_VALUES: dict[pa.DataType, pa.DataType] = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.int64(),
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
    pa.date64(): pa.date32(),
}
_SCALARS: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_boolean,
    pa.types.is_signed_integer,
    pa.types.is_float32,
    pa.types.is_float64,
    pa.types.is_string,
    pa.types.is_binary,
    pa.types.is_date32,
    pa.types.is_null,
)
_LISTS: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)


def _delta_type(kind: pa.DataType) -> pa.DataType:
    types = pa.types
    if any(holds(kind) for holds in _SCALARS):
        return kind
    if kind in _SAME_VALUES:
        return _SAME_VALUES[kind]
    if types.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    if types.is_decimal(kind) and not types.is_decimal256(kind) and kind.scale >= 0:
        return pa.decimal128(kind.precision, kind.scale)
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return _delta_type(kind.value_type)
    if types.is_fixed_size_binary(kind):
        return pa.binary()
    if any(holds(kind) for holds in _LISTS):
        return pa.list_(_delta_type(kind.value_type))
    if types.is_map(kind):
        return pa.map_(_delta_type(kind.key_type), _delta_type(kind.item_type))
    if types.is_struct(kind):
        return _struct_type(kind)
    raise _Unfit(_advice(kind))


def _struct_type(kind: pa.DataType) -> pa.DataType:
    try:
        check_names([f.name for f in kind])
    except InvalidFrame as exc:
        raise _Unfit(f"a struct in it: {exc.message}") from None
    return pa.struct([pa.field(f.name, _delta_type(f.type)) for f in kind])


def _advice(kind: pa.DataType) -> str:
    if pa.types.is_duration(kind):
        return "Delta has no durations: store a number, such as its seconds as float64"
    if pa.types.is_time(kind):
        return "Delta has no times of day: store text, or a number such as seconds"
    if pa.types.is_float16(kind):
        return "Delta has no float16: cast it to float32"
    if pa.types.is_decimal(kind):
        return "Delta's decimals have up to 38 digits and no negative scale: cast it to one"
    return f"Delta has no type for {kind}: cast it to a type that it has, or to text"


def _fit(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        column if column.type == field.type else _cast(column, field)
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _cast(column: pa.Array, field: pa.Field) -> pa.Array:
    if pa.types.is_run_end_encoded(column.type):
        column = pc.run_end_decode(column)
    try:
        return column.cast(field.type)
    except pa.ArrowException as exc:
        if "ns" in str(column.type) and "lose data" in str(exc):
            what = (
                "has nanoseconds, and Delta keeps microseconds: round it first, in pandas with "
                f"frame[{field.name!r}].dt.floor('us')"
            )
        elif pa.types.is_uint64(column.type):
            what = f"has values over 2**63-1: cast it to decimal(20, 0) ({exc})"
        else:
            what = f"does not fit {field.type} without loss: {exc}"
        raise InvalidFrame(
            f"column {field.name!r} ({column.type}) {what}", details={"column": field.name}
        ) from exc

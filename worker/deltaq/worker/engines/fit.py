"""Fits frames to tables: every value is kept as it is, or the frame is refused.

Both engines would cast by themselves, and lose data without a word: delta-rs makes 1 of 1.5,
Spark drops a column that the table does not have. So frames come to them already cast, by
these rules:

- integers to any integer, floating or decimal type, and floating types to each other and to
  integers, as long as each value stays equal (floating and integer meet up to 2**53);
- decimals to other precisions and scales, and timestamps to microseconds, when nothing is lost;
- a column of nulls to anything; encodings (dictionary, large, view) are not types of their own;
- never text to or from anything else, a date to a timestamp, or a timestamp without time zone
  to one with: it would need a guess.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from deltaq.tasks.errors import DuplicateKeys, InvalidFrame, SchemaMismatch, StagedDataMissing
from deltaq.tasks.location import Location
from deltaq.tasks.staging import open_staged
from deltaq.tasks.suggest import did_you_mean
from deltaq.worker.engines.delta_types import (
    Misfit,
    bridge_type,
    delta_name,
    delta_type,
    plain_type,
)

#: Rows held at a time: large enough for the engines' vectors, small enough for wide rows.
_BATCH_ROWS = 65_536
#: Integers up to here have a double of their own; above, two may share one.
_EXACT_DOUBLE = 2**53
#: Delta without column mapping has no place for these in a name (as Spark checks it).
_FORBIDDEN_IN_NAMES = " ,;{}()\n\t="
_DUPLICATES_NAMED = 3


def fit_schema(
    frame: pa.Schema,
    table: pa.Schema | None,
    *,
    name: str,
    extra_allowed: frozenset[str] = frozenset(),
) -> pa.Schema:
    """Decide to which types the columns of a frame must be cast.

    Args:
        frame: Schema of the staged file.
        table: Schema of the table, or None when the frame's will be the table's.
        name: The table's name, for messages.
        extra_allowed: Columns that the table need not have; they come last.

    Returns:
        The frame's columns in the table's order and types, all nullable: whether nulls are
        allowed is for the engines to say. Columns that only the table has are left out.

    Raises:
        InvalidFrame: No columns, names that clash or cannot be, or types that Delta does not have.
        SchemaMismatch: Columns that the table does not have, or types that never fit.
    """
    _check_names(frame, name)
    if table is None:
        return pa.schema(created_fields(frame, frame.names, name))
    extra = [c for c in frame.names if c not in table.names]
    unknown = [c for c in extra if c not in extra_allowed]
    misfits = [_misfit(frame.field(c), table.field(c)) for c in frame.names if c in table.names]
    problems = [f"column {c!r} is not in it{did_you_mean(c, table.names)}" for c in unknown]
    if problems:
        problems[-1] += " (schema_mode='merge' adds new columns)"
    problems += [m for m in misfits if m]
    if problems:
        raise SchemaMismatch(
            f"the frame does not fit table {name}: {'; '.join(problems)}",
            table=name,
            details={"extra": unknown, "problems": problems},
        )
    present = set(frame.names)
    fields = [pa.field(f.name, plain_type(f.type)) for f in table if f.name in present]
    return pa.schema(fields + created_fields(frame, extra, name))


def fitted_batches(paths: Sequence[Location], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Read staged files in order, a batch at a time, cast to a schema from :func:`fit_schema`.

    Raises:
        SchemaMismatch: A value does not fit; column, value and type are named.
        StagedDataMissing, StorageUnavailable: A file cannot be read.
    """
    for path in paths:
        with open_staged(path) as file:
            # Waking threads costs more than it saves on a small file.
            left = file.metadata.num_rows
            threads = left > _BATCH_ROWS
            for batch in file.iter_batches(_BATCH_ROWS, columns=schema.names, use_threads=threads):
                left -= batch.num_rows
                yield fit_batch(batch, schema)
            if left:  # a page's header, which says how much is in it, has no checksum
                raise StagedDataMissing(f"{path}: the staged file is damaged: {left} rows missing")


def check_keys_present(
    frame: pa.Schema, table: pa.Schema | None, keys: Sequence[str], *, name: str
) -> None:
    """Check that frame and table have the key columns of a merge, and that keys can be compared.

    Raises:
        SchemaMismatch: They do not; the missing ones are named.
    """
    problems = [
        f"key column {key!r} is not in the {where}{did_you_mean(key, schema.names)}"
        for where, schema in (("frame", frame), ("table", table))
        if schema is not None
        for key in keys
        if key not in schema.names
    ]
    problems += [
        f"key column {key!r} is a {delta_name(frame.field(key).type)}, which cannot be a key"
        for key in keys
        if key in frame.names and pt.is_nested(frame.field(key).type)
    ]
    if problems:
        raise SchemaMismatch(
            f"cannot merge into table {name}: {'; '.join(problems)}",
            table=name,
            details={"problems": problems},
        )


def check_unique_keys(paths: Sequence[Location], keys: Sequence[str], *, name: str) -> None:
    """Check that no two rows of staged files have the same keys; null keys match nothing.

    Raises:
        DuplicateKeys: Some do; up to three are named.
        StagedDataMissing, StorageUnavailable: A file cannot be read.
    """
    tables = []
    for path in paths:
        with open_staged(path) as file:
            tables.append(comparable_keys(file.read(columns=list(keys)).select(list(keys))))
    rows = pa.concat_tables(tables, promote_options="permissive").drop_null()
    if rows.num_rows < 2 or _ascends(rows):
        return
    # With threads each groups for itself and all is grouped again: twice the time.
    counted = rows.group_by(list(keys), use_threads=False).aggregate([([], "count_all")])
    repeated = counted.filter(pc.field("count_all") > 1)
    if repeated.num_rows == 0:
        return
    named = repeated.slice(0, _DUPLICATES_NAMED).select(list(keys)).to_pylist()
    texts = [", ".join(f"{key}={value!r}" for key, value in row.items()) for row in named]
    more = f" and {repeated.num_rows - len(named)} more" if repeated.num_rows > len(named) else ""
    raise DuplicateKeys(
        f"cannot merge into table {name}: more than one row with {'; '.join(texts)}{more}; "
        "keep one row for each key",
        table=name,
        details={"keys": [{k: _json_value(v) for k, v in row.items()} for row in named]},
    )


def _ascends(rows: pa.Table) -> bool:
    """Tell whether each row is above the one before, a hundred times sooner than by grouping."""
    ascending, equal = pa.scalar(False), pa.scalar(True)
    for column in rows.columns:
        before, after = column[:-1], column[1:]
        ascending = pc.or_(ascending, pc.and_(equal, pc.less(before, after)))
        equal = pc.and_(equal, pc.equal(before, after))
    return pc.all(ascending).as_py() is not False


def _check_names(frame: pa.Schema, name: str) -> None:
    if not frame.names:
        raise InvalidFrame(f"the frame for table {name} has no columns", table=name)
    clashing = [c for c, n in Counter(c.lower() for c in frame.names).items() if n > 1]
    if clashing:
        raise InvalidFrame(
            f"the frame for table {name} has more than one column called "
            f"{', '.join(map(repr, clashing))} (upper and lower case are the same)",
            table=name,
            details={"columns": clashing},
        )


def created_fields(frame: pa.Schema, names: Sequence[str], table: str) -> list[pa.Field]:
    """Make the fields of new columns.

    Raises:
        InvalidFrame: One has a name or a type that Delta does not have.
    """
    fields, problems = [], []
    for column in names:
        inside = _names_in(frame.field(column).type)
        if any(
            not name or any(c in _FORBIDDEN_IN_NAMES for c in name) for name in (column, *inside)
        ):
            problems.append(f"column {column!r}: a name is not empty and has none of ' ,;{{}}()='")
            continue
        try:
            fields.append(pa.field(column, delta_type(frame.field(column).type)))
        except Misfit as exc:
            problems.append(f"column {column!r}: {exc}")
    if problems:
        raise InvalidFrame(
            f"table {table} cannot have this: {'; '.join(problems)}",
            table=table,
            details={"problems": problems},
        )
    return fields


def _names_in(kind: pa.DataType) -> Iterator[str]:
    """Name the fields of all structs inside a type."""
    for place in range(kind.num_fields):
        field = kind.field(place)
        if pt.is_struct(kind):
            yield field.name
        yield from _names_in(field.type)


def _misfit(source: pa.Field, target: pa.Field) -> str | None:
    """Tell why no value of one type fits the other, if so."""
    try:
        bridge_type(source.type, plain_type(target.type))
    except Misfit as exc:
        return f"column {source.name!r}: {exc}"
    return None


def fit_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Cast the columns of a batch to those of a schema, all of which it has.

    Raises:
        SchemaMismatch: A value does not fit; column, value and type are named.
    """
    columns = [_fit_column(batch.column(f.name), f) for f in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _fit_column(column: pa.Array, field: pa.Field) -> pa.Array:
    if column.type == field.type:
        return column
    try:
        return _cast(column, field.type)
    except Misfit as exc:
        reason = str(exc)
    except pa.ArrowInvalid:
        reason = f"{_first_unfit(column, field.type)!r} does not fit {delta_name(field.type)}"
    raise SchemaMismatch(
        f"column {field.name!r}: {reason} without loss; cast the column, or correct the value",
        details={"column": field.name},
    )


def _cast(array: pa.Array, target: pa.DataType) -> pa.Array:
    """Cast, or raise ArrowInvalid when a value would change."""
    array = array.cast(plain_type(array.type))
    fitted = array.cast(bridge_type(array.type, target)).cast(target)
    for before, after in _leaves(array, fitted):
        _check_floats(before, after)
    return fitted


def _leaves(before: pa.Array, after: pa.Array) -> Iterator[tuple[pa.Array, pa.Array]]:
    """Pair the primitive arrays inside two arrays of the same shape."""
    if pt.is_struct(after.type):
        names = before.type.names if pt.is_struct(before.type) else []
        for name in names:
            yield from _leaves(before.field(name), after.field(name))
    elif pt.is_map(after.type) and pt.is_map(before.type):
        yield from _leaves(before.keys, after.keys)
        yield from _leaves(before.items, after.items)
    elif pt.is_list(after.type) and not pt.is_null(before.type):
        yield from _leaves(before.flatten(), after.flatten())
    else:
        yield before, after


def _check_floats(before: pa.Array, after: pa.Array) -> None:
    """Check what Arrow's safe cast lets pass: rounded floats, and integers of huge ones."""
    if not pt.is_floating(before.type):
        return
    if pt.is_integer(after.type):
        exact = pc.less_equal(pc.abs(before), _EXACT_DOUBLE)
    elif pt.is_float32(after.type) and pt.is_float64(before.type):
        exact = pc.or_(pc.equal(after.cast(pa.float64()), before), pc.is_nan(before))
    else:
        return
    if pc.all(exact).as_py() is False:
        raise pa.ArrowInvalid("a floating value would change")


def _first_unfit(array: pa.Array, target: pa.DataType) -> Any:
    """Find the first value that cannot be cast, by halving."""
    while len(array) > 1:
        # take() and not slice(): a slice of nested values still carries the others.
        left = array.take(pa.array(range(len(array) // 2)))
        try:
            _cast(left, target)
        except pa.ArrowInvalid:
            array = left
        else:
            array = array.take(pa.array(range(len(array) // 2, len(array))))
    return _python_value(array)


def _python_value(array: pa.Array) -> Any:
    try:
        return array[0].as_py()
    except (ValueError, OverflowError):  # a time that Python's datetime cannot hold
        return " ".join(array.to_string().split())


def comparable_keys(keys: pa.Table) -> pa.Table:
    """Make keys equal bytewise when they are equal for the engines."""
    columns = []
    for column in keys.columns:
        column = column.cast(plain_type(column.type))
        if pt.is_float16(column.type):  # with which Arrow does not reckon
            column = column.cast(pa.float32())
        if pt.is_floating(column.type):
            # 0.0 and -0.0 are the same key, and NaN is one however it is written.
            nan = pa.scalar(float("nan"), column.type)
            column = pc.if_else(pc.is_nan(column), nan, pc.add(column, pa.scalar(0.0, column.type)))
        columns.append(column)
    return pa.table(columns, names=keys.column_names)


def _json_value(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) else str(value)

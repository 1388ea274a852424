"""How a table's columns change by a frame: ``schema_mode``, the same for both engines.

Columns that the table lacks are added behind its own, and null in the rows there are. A column
of a wider type in the frame widens the table's where ``delta.enableTypeWidening`` allows it.
All else is as without ``schema_mode``.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.types as pt

from deltaq.tasks.errors import SchemaMismatch
from deltaq.tasks.request import Adopt, FrameRequest, Merge
from deltaq.worker.engines.delta_types import plain_type
from deltaq.worker.engines.fit import created_fields

#: Property of tables whose columns may be widened.
WIDENING = "delta.enableTypeWidening"
#: Feature of tables with timestamps without a zone.
_NTZ = "timestampNtz"


def evolve(
    request: FrameRequest | Adopt,
    frame: pa.Schema,
    table: pa.Schema,
    *,
    features: frozenset[str],
    widening: bool,
    delete_columns: frozenset[str] = frozenset(),
) -> pa.Schema:
    """Say which columns a table will have by a request; those it has, without ``schema_mode``.

    Args:
        request: The request.
        frame: Schema of its staged file.
        table: Schema of the table.
        features: Writer features of the table.
        widening: Whether the table allows wider types.
        delete_columns: Columns that ``delete_when`` names; they are not added for that.

    Raises:
        InvalidFrame: A new column has a name or a type that Delta does not have.
        SchemaMismatch: A new column differs from another by its case only, or the table must
            be told to have its type.
    """
    if request.schema_mode is None:
        return table
    fields = [_widened(field, frame) for field in table] if widening else list(table)
    added = [c for c in frame.names if c not in table.names and _is_written(request, c)]
    new = created_fields(frame, [c for c in added if c not in delete_columns], request.table)
    check_new_columns(new, table, features, name=request.table)
    return pa.schema(fields + new)


def check_new_columns(
    new: list[pa.Field], table: pa.Schema, features: frozenset[str], *, name: str
) -> None:
    """Check that a table can have new columns besides its own.

    Raises:
        SchemaMismatch: It has one of that name, or must be told to have that type.
    """
    known = {column.lower(): column for column in table.names}
    for field in new:
        if field.name.lower() in known:
            raise SchemaMismatch(
                f"table {name} has a column {known[field.name.lower()]!r}; {field.name!r} would "
                "be the same, as upper and lower case are",
                table=name,
                details={"column": field.name},
            )
        if has_ntz(pa.schema([field])) and _NTZ not in features:
            raise SchemaMismatch(
                f"table {name}: column {field.name!r} is the first timestamp without a zone, "
                "which older readers do not know; allow it first: "
                f"set_properties({name!r}, {{'delta.feature.{_NTZ}': 'supported'}})",
                table=name,
                details={"column": field.name},
            )


def _is_written(request: FrameRequest | Adopt, column: str) -> bool:
    if not isinstance(request, Merge) or request.insert:
        return True
    return request.update is None or column in request.update


def _widened(field: pa.Field, frame: pa.Schema) -> pa.Field:
    if field.name not in frame.names:
        return field
    kind = plain_type(frame.field(field.name).type)
    return field.with_type(kind) if _is_wider(kind, field.type) else field


def _is_wider(kind: pa.DataType, than: pa.DataType) -> bool:
    """Tell whether Delta widens a type to another by itself, and does not to the same."""
    if pt.is_signed_integer(kind) and pt.is_signed_integer(than):
        return bool(kind.bit_width > than.bit_width)
    if pt.is_float64(kind):
        return bool(pt.is_float32(than))
    if pt.is_decimal128(kind) and pt.is_decimal(than):
        whole = kind.precision - kind.scale >= than.precision - than.scale
        return bool(whole and kind.scale >= than.scale and kind != than)
    return False


def has_ntz(schema: pa.Schema) -> bool:
    """Tell whether a column is a timestamp without a zone, or has one inside."""
    return any(_has_ntz(field.type) for field in schema)


def _has_ntz(kind: pa.DataType) -> bool:
    if pt.is_timestamp(kind):
        return kind.tz is None
    return any(_has_ntz(kind.field(n).type) for n in range(kind.num_fields))

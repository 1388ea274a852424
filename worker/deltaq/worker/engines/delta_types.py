"""Arrow's types as Delta sees them: which exist, what they are called, what fits into what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pyarrow as pa
import pyarrow.types as pt

from deltaq.tasks.type_names import TYPE_NAMES

#: Holds every integer; the way from an integer to a decimal, for Arrow has no direct one.
_INTEGER_DECIMAL = pa.decimal128(20, 0)

_FLOAT16 = pa.float16()


class Misfit(Exception):
    """A type that Delta does not have, or that never fits another; the message says why."""


def delta_name(kind: pa.DataType) -> str:
    """Name a type as Delta and Spark do; what they do not have keeps Arrow's name."""
    kind = plain_type(kind)
    if pt.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pt.is_list(kind):
        return f"array<{delta_name(kind.value_type)}>"
    if pt.is_map(kind):
        return f"map<{delta_name(kind.key_type)},{delta_name(kind.item_type)}>"
    if pt.is_struct(kind):
        return f"struct<{','.join(f'{f.name}:{delta_name(f.type)}' for f in kind)}>"
    return TYPE_NAMES.get(kind, str(kind))


def is_text(kind: pa.DataType) -> bool:
    """Tell whether a type holds text, however it is encoded."""
    return bool(pt.is_string(plain_type(kind)))


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Reduce a type to what it means: no dictionary, large, view or fixed-size encoding."""
    if pt.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pt.is_large_string(kind) or pt.is_string_view(kind):
        return pa.string()
    if pt.is_large_binary(kind) or pt.is_binary_view(kind) or pt.is_fixed_size_binary(kind):
        return pa.binary()
    if pt.is_date64(kind):
        return pa.date32()
    return _nested(kind, plain_type)


def delta_type(kind: pa.DataType) -> pa.DataType:
    """Choose the type of a new column that holds values of ``kind`` without loss.

    Raises:
        Misfit: Delta has none.
    """
    kind = plain_type(kind)
    if pt.is_null(kind):
        raise Misfit("only nulls: give it a type")
    if pt.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if pt.is_decimal(kind) and kind.precision <= 38:
        return pa.decimal128(kind.precision, kind.scale)
    if pt.is_struct(kind):
        _check_struct(kind)
    if pt.is_list(kind) or pt.is_map(kind) or pt.is_struct(kind):
        return _nested(kind, delta_type)
    if kind not in TYPE_NAMES:
        hint = "; cast it to a signed integer" if pt.is_unsigned_integer(kind) else ""
        raise Misfit(f"Delta has no type for {kind}{hint}")
    return kind


def bridge_type(source: pa.DataType, target: pa.DataType) -> pa.DataType:
    """Find the type through which Arrow casts ``source`` to ``target``, often ``target`` itself.

    Args:
        source: Any type.
        target: A type of Delta, plain.

    Raises:
        Misfit: Values of the one are never values of the other.
    """
    plain = plain_type(source)
    if pt.is_integer(plain) and pt.is_decimal(target):
        return _INTEGER_DECIMAL
    if pt.is_list(plain) and pt.is_list(target):
        return pa.list_(pa.field("element", bridge_type(plain.value_type, target.value_type)))
    if pt.is_map(plain) and pt.is_map(target):
        return pa.map_(
            bridge_type(plain.key_type, target.key_type),
            bridge_type(plain.item_type, target.item_type),
        )
    if pt.is_struct(plain) and pt.is_struct(target):
        return _bridge_struct(plain, target)
    if not _leaf_fits(plain, target):
        raise Misfit(f"{delta_name(plain)} does not fit {delta_name(target)}")
    return target


def _bridge_struct(source: pa.StructType, target: pa.StructType) -> pa.DataType:
    _check_struct(source)
    unknown = [f.name for f in source if target.get_field_index(f.name) < 0]
    if unknown:
        raise Misfit(f"no field {', '.join(map(repr, unknown))} in {delta_name(target)}")
    return pa.struct([(f.name, bridge_type(f.type, target.field(f.name).type)) for f in source])


def _leaf_fits(source: pa.DataType, target: pa.DataType) -> bool:
    if source == target or pt.is_null(source):
        return True
    if pt.is_integer(source):
        return bool(pt.is_integer(target) or pt.is_floating(target))
    if pt.is_floating(source):
        # Arrow reads the bits of a half as an integer.
        return bool(pt.is_floating(target) or (pt.is_integer(target) and source != _FLOAT16))
    if pt.is_decimal(source):
        return bool(pt.is_decimal(target))
    if pt.is_timestamp(source) and pt.is_timestamp(target):
        return bool(source.tz) == bool(target.tz)
    return False


def _check_struct(kind: pa.StructType) -> None:
    if kind.num_fields == 0:
        raise Misfit("a struct without fields")
    clashing = [n for n, c in Counter(f.name.lower() for f in kind).items() if c > 1]
    if clashing:
        raise Misfit(f"more than one field called {', '.join(map(repr, clashing))}")


def _nested(kind: pa.DataType, change: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    if pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind):
        return pa.list_(pa.field("element", change(kind.value_type)))
    if pt.is_map(kind):
        return pa.map_(change(kind.key_type), change(kind.item_type))
    if pt.is_struct(kind):
        return pa.struct([(f.name, change(f.type)) for f in kind])
    return kind
